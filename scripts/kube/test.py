"""The chart in a real Kubernetes: installs, breaks, restarts, upgrades and removes it while an official client sends and
receives, and says of each step what it has proved. Called by scripts/kube/test.sh, which knows where the cluster is.

Environment:
    KUBE_TEST_IMAGE        repository of the image; the tags KUBE_TEST_TAGS (two, separated by a comma) must be there
    KUBE_TEST_CLIENT       image of the official client
    KUBE_TEST_NODE         command that runs another on the node, for kill -9 of a process; unset: pods are killed by the API
    KUBE_TEST_ONLY         names of steps, separated by commas; unset: all
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE.parent.parent / "helm" / "bolide"
NAMESPACE, SMALL, STRANGERS = "bolide-test", "bolide-small", "bolide-strangers"
IMAGE = os.environ["KUBE_TEST_IMAGE"]
TAGS = os.environ["KUBE_TEST_TAGS"].split(",")
CLIENT = os.environ["KUBE_TEST_CLIENT"]
NODE = shlex.split(os.environ.get("KUBE_TEST_NODE", ""))
PYTHON = os.environ["KUBE_TEST_PYTHON"]
ONLY = set(filter(None, os.environ.get("KUBE_TEST_ONLY", "").split(",")))
WAIT = "300s"
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
LOCKED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


# When proxies leave in order: at most one call of each connection of the load.
LEAVING = {"going_away_allowed": 7}


class Failed(Exception):
    pass


def say(text):
    print(text, flush=True)


def run(*command, text=None, check=True, timeout=400):
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode:
        raise Failed(f"{' '.join(command)[:300]}\n  exit code {done.returncode}: {(done.stdout + done.stderr).strip()[-3000:]}")
    return done


def kubectl(*arguments, namespace=NAMESPACE, **more):
    return run("kubectl", "-n", namespace, *arguments, **more)


def apply(*objects, namespace=NAMESPACE):
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return kubectl("apply", "--validate=strict", "-f", "-", namespace=namespace, text=json.dumps(listed))


def get(*what, namespace=NAMESPACE):
    return json.loads(kubectl("get", *what, "-o", "json", namespace=namespace).stdout)


def until(what, condition, seconds=120, pause=0.3):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(pause)


def pods(component, namespace=NAMESPACE):
    selector = f"app.kubernetes.io/instance=bolide,app.kubernetes.io/component={component}"
    return get("pods", "-l", selector, namespace=namespace)["items"]


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def all_ready(component, count, namespace=NAMESPACE):
    """So many, and the old ones gone: what a pod does wrong at its end belongs to the step that ended it."""
    there = pods(component, namespace)
    return len(there) == count and all(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in there)


def wait_ready(namespace=NAMESPACE, route=1, broker=2, proxy=2):
    for component, count in (("route", route), ("broker", broker), ("proxy", proxy)):
        until(f"{count} {component} ready", lambda: all_ready(component, count, namespace))


def admin(*arguments, namespace=NAMESPACE, check=True):
    return kubectl("exec", "deploy/bolide-proxy", "--", "bolide", "admin", *arguments, namespace=namespace, check=check)


def create_topic(name, *more, namespace=NAMESPACE):
    admin("topic", "create", name, *more, namespace=namespace)


def image_values(tag):
    return ["--set", f"image.repository={IMAGE}", "--set-string", f"image.tag={tag}"]


def helm(binary, *arguments, namespace=NAMESPACE, **more):
    return run(binary, "--namespace", namespace, *arguments, **more)


def make_namespace(name):
    # The API server refuses every pod that does not keep to the level.
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    metadata = {"name": name, "labels": level}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, namespace="default")
    until("the service account", lambda: kubectl("get", "sa", "default", namespace=name, check=False).returncode == 0)


def pod(name, image, command, *, entrypoint=None, memory="256Mi", grace=100):
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": command,
        "securityContext": LOCKED,
        "resources": {"limits": {"memory": memory}, "requests": {"cpu": "10m"}},
    }
    if entrypoint:
        container["command"] = entrypoint
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"who": "tester"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": grace,
            "securityContext": RESTRICTED,
            "containers": [container],
        },
    }


def job(name, image, command, *, namespace=NAMESPACE, seconds=180, memory="256Mi", check=True):
    """Runs a pod to its end and returns what it said."""
    kubectl("delete", "pod", name, "--ignore-not-found", "--force", "--grace-period=0", namespace=namespace)
    apply(pod(name, image, command, memory=memory), namespace=namespace)

    def ended():
        phase = get("pod", name, namespace=namespace)["status"].get("phase")
        return phase if phase in ("Succeeded", "Failed") else None

    phase = until(f"the end of pod {name}", ended, seconds)
    said = kubectl("logs", name, namespace=namespace).stdout
    if check and phase != "Succeeded":
        raise Failed(f"pod {name} failed:\n{said[-3000:]}")
    kubectl("delete", "pod", name, "--force", "--grace-period=0", namespace=namespace)
    return said


def bench(name, arguments, **more):
    return job(name, f"{IMAGE}:{TAGS[0]}", arguments, **more)


class Load:
    """The load that runs beside everything, and its checker."""

    topic = "load"

    def start(self):
        create_topic(self.topic)
        create_topic(f"{self.topic}-ordered", "--type", "fifo")
        kubectl("delete", "pod", "load", "--ignore-not-found", "--force", "--grace-period=0")
        apply(pod("load", CLIENT, ["/load.py", f"bolide.{NAMESPACE}:8081", self.topic, "load", "60"], memory="768Mi"))
        until("the load to run", lambda: (now := self.now()) and now["started"] == 7 and now["acked"] > 100, 120)

    def now(self):
        if self.phase() == "Failed":
            raise Failed(kubectl("logs", "load", "--tail=10").stdout)
        lines = kubectl("logs", "load", "--tail=1", check=False).stdout.strip().splitlines()
        with contextlib.suppress(ValueError, IndexError):
            return json.loads(lines[-1])
        return None

    def flows(self, seconds=60):
        """Waits until messages sent from now on have been sent and acknowledged."""
        before = self.now()
        until(
            "messages to flow",
            lambda: (now := self.now()) and now["sent"] > before["sent"] + 60 and now["acked"] > before["acked"] + 60,
            seconds,
        )

    def stop(self):
        # By a signal and not by removing the pod: its last words are wanted.
        kubectl("exec", "load", "--", "/venv/bin/python", "-c", "import os; os.kill(1, 15)")
        phase = until("the end of the load", lambda: self.phase() in ("Succeeded", "Failed") and self.phase(), 150)
        said = json.loads(kubectl("logs", "load", "--tail=1").stdout)
        kubectl("delete", "pod", "load")
        return {"phase": phase, **said}

    def phase(self):
        return get("pod", "load")["status"].get("phase")


load = Load()


@contextlib.contextmanager
def nothing_fails(what, *, cut_allowed=0, refused_allowed=0, going_away_allowed=0):
    """Under load: no send fails after the client's own attempts, nothing acknowledged comes again, order is kept, and it flows
    again. The Python client tries a receive and an acknowledgement once only; a connection that is cut ends those under way."""
    before = load.now()
    yield
    load.flows()
    after = load.now()
    new = {name: after[name] - before[name] for name in after if isinstance(after[name], int)}
    cut = new["receive_failed"] + new["ack_failed"]
    refused = new["send_refused"] + new["receive_refused"] + new["ack_refused"]
    going = new["send_going_away"] + new["receive_going_away"] + new["ack_going_away"]
    say(
        f"    {what}: {new['sent']} sent, {new['acked']} acknowledged; {new['send_failed']} sends failed,"
        f" {cut} receives or acknowledgements cut, {refused} calls found nobody to connect to, {going} cancelled by the client's"
        f" library; {new['after_ack']} came again after their acknowledgement, {new['out_of_order']} out of order,"
        f" {new['ordered_send_again']} ordered sends tried again; slowest send {after['slowest_send']} s"
    )
    errors = "".join(f"\n      {error}" for error in after["errors"])
    for count, allowed, words in (
        (new["send_failed"], 0, "sends failed"),
        (new["after_ack"], 0, "messages came again after their acknowledgement"),
        (new["out_of_order"], 0, "messages came out of order"),
        (cut, cut_allowed, "receives or acknowledgements failed"),
        (refused, refused_allowed, "calls found nobody to connect to"),
        (going, going_away_allowed, "calls were cancelled by the client's library"),
    ):
        if count > allowed:
            raise Failed(f"{count} {words}, {allowed} allowed: {errors}")


def pid_of(container_id):
    """Process id, as the node sees it, of the first process of a container."""
    tasks = run(*NODE, "ctr", "-n", "k8s.io", "tasks", "ls").stdout
    return re.search(rf"^{container_id}\s+(\d+)", tasks, re.M).group(1)


def kill_process(one):
    """kill -9 of the process in a pod; where nobody may do that on the node, of the pod."""
    name = one["metadata"]["name"]
    if not NODE:
        kubectl("delete", "pod", name, "--force", "--grace-period=0")
        return
    container = one["status"]["containerStatuses"][0]["containerID"].split("//")[1]
    run(*NODE, "kill", "-9", pid_of(container))
    until(f"the end of {name}", lambda: restarts(name) > one["status"]["containerStatuses"][0]["restartCount"], 60)


def restarts(name, namespace=NAMESPACE):
    statuses = get("pod", name, namespace=namespace)["status"].get("containerStatuses", [])
    return sum(status["restartCount"] for status in statuses)


def never_killed_for_memory(namespace):
    for component in ("route", "broker", "proxy"):
        for one in pods(component, namespace):
            for status in one["status"]["containerStatuses"]:
                for state in (status["state"], status["lastState"]):
                    if state.get("terminated", {}).get("reason") == "OOMKilled":
                        raise Failed(f"{one['metadata']['name']} was killed for its memory")


def resident(namespace):
    """Resident MiB of each pod, from its own metrics."""
    sizes = {}
    for component in ("route", "broker", "proxy"):
        for one in pods(component, namespace):
            name = one["metadata"]["name"]
            page = kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}:8088/proxy/metrics").stdout
            found = re.search(r"^bolide_process_resident_bytes\S* ([0-9.e+]+)", page, re.M)
            sizes[name] = float(found.group(1)) / 2**20 if found else float("nan")
    return sizes


@contextlib.contextmanager
def port_forward(target, port):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        local = free.getsockname()[1]
    process = subprocess.Popen(
        ["kubectl", "-n", NAMESPACE, "port-forward", target, f"{local}:{port}"], stdout=subprocess.PIPE, text=True
    )
    try:
        process.stdout.readline()
        yield f"127.0.0.1:{local}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def hello_from_outside(endpoint):
    environment = {**os.environ, "HOME": os.environ.get("KUBE_TEST_HOME", "/tmp")}
    command = [PYTHON, str(HERE.parent / "hello.py"), endpoint]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise Failed(f"{endpoint}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout.strip().splitlines()[-1]


# ---- steps, in order


def install():
    make_namespace(NAMESPACE)
    begun = time.monotonic()
    helm("helm", "install", "bolide", str(CHART), *image_values(TAGS[0]), "--wait", "--timeout", WAIT)
    wait_ready()
    say(f"    Helm 4, default values, --wait: {time.monotonic() - begun:.0f} s; Pod Security restricted is enforced")
    rendered = helm("helm", "get", "manifest", "bolide").stdout
    kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=rendered)
    say("    the API server takes every manifest strictly")


def helm_test():
    for binary in ("helm", "helm3"):
        helm(binary, "test", "bolide", "--timeout", "120s")
        said = kubectl("logs", "bolide-probe").stdout.strip()
        say(f"    {binary} test: {said.splitlines()[-1]}")


def client_inside():
    create_topic("hello")
    said = job("hello", CLIENT, ["/hello.py", f"bolide.{NAMESPACE}:8081"])
    say(f"    a pod, through the service: {said.strip().splitlines()[-1]}")


def client_port_forward():
    with port_forward("service/bolide", 8081) as endpoint:
        say(f"    through port-forward to {endpoint}: {hello_from_outside(endpoint)}")


def start_load():
    load.start()
    load.flows()
    say("    two producers and two consumers of the official Python client run from here on")


def node_port():
    with nothing_fails("helm upgrade to a NodePort, proxies replaced", **LEAVING):
        helm(
            "helm", "upgrade", "bolide", str(CHART), *image_values(TAGS[0]), "--set", "external.type=NodePort", "--wait",
            "--timeout", WAIT,
        )  # fmt: skip
        wait_ready()
    port = get("service", "bolide-external")["spec"]["ports"][0]["nodePort"]
    addresses = get("nodes")["items"][0]["status"]["addresses"]
    address = next(one["address"] for one in addresses if one["type"] == "InternalIP")
    say(f"    outside, through {address}:{port}: {hello_from_outside(f'{address}:{port}')}")


REACH = """
import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(target, "open")
    except OSError as error:
        print(target, "closed")
"""


def strangers():
    make_namespace(STRANGERS)
    there = {role: pods(role)[0]["status"]["podIP"] for role in ("route", "broker", "proxy")}
    internal = [f"{address}:8082" for address in there.values()]
    public = [f"{there['proxy']}:8081", f"{there['proxy']}:8091", f"{there['broker']}:8088"]
    for namespace, who in ((STRANGERS, "a stranger elsewhere"), (NAMESPACE, "a stranger next door")):
        said = job("stranger", CLIENT, ["-c", REACH, *internal, *public], namespace=namespace)
        state = dict(line.rsplit(" ", 1) for line in said.strip().splitlines())
        if wrong := [target for target in internal if state[target] != "closed"]:
            raise Failed(f"{who} reaches {wrong}")
        if wrong := [target for target in public if state[target] != "open"]:
            raise Failed(f"{who} does not reach {wrong}, so that nothing is proved")
        say(f"    {who}: internal ports of the three roles closed; the clients' ports and the metrics open")


def kill(component, cut, refused=0):
    one = pods(component)[0]
    with nothing_fails(f"kill -9 of {one['metadata']['name']}", cut_allowed=cut, refused_allowed=refused):
        begun = time.monotonic()
        kill_process(one)
        back = until("all ready again", lambda: all_ready(component, 1 if component == "route" else 2)) and time.monotonic()
        say(f"    all ready again {back - begun:.1f} s after the kill")


def kill_broker():
    kill("broker", 0)


def kill_proxy():
    one = pods("proxy")[0]["metadata"]["name"]
    with nothing_fails(f"deletion of {one} without grace", **LEAVING):
        kubectl("delete", "pod", one, "--force", "--grace-period=0")
        until("all ready again", lambda: all_ready("proxy", 2))
    # What is under way on the connections of the killed process: one call of each client, which is its only attempt. And until
    # the kubelet has seen that the process is gone, the service still leads half of the new connections to it: a second or
    # two in which a client that tries again without a pause finds nobody.
    kill("proxy", 7, refused=300)


def kill_route():
    kill("route", 0)


def rollout(what):
    with nothing_fails(f"rollout restart of {what}", **(LEAVING if "proxy" in what else {})):
        begun = time.monotonic()
        kubectl("rollout", "restart", what)
        kubectl("rollout", "status", what, f"--timeout={WAIT}")
        wait_ready()
        say(f"    {what} restarted in {time.monotonic() - begun:.0f} s")


def drain():
    node = pods("proxy")[0]["spec"]["nodeName"]
    command = ["drain", node, "--pod-selector=app.kubernetes.io/instance=bolide,app.kubernetes.io/component!=test"]
    command += ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=25s"]
    nodes = len(get("nodes")["items"])
    with nothing_fails("drain of the node against the budgets", **LEAVING):
        try:
            done = kubectl(*command, check=False)
            said = done.stdout + done.stderr
            if nodes == 1:
                # There is nowhere else to go: one of each may leave, the others are protected.
                if "disruption budget" not in said:
                    raise Failed(f"the drain was not held up by a budget: {said[-1500:]}")
                for component in ("broker", "proxy"):
                    if not any(map(is_ready, pods(component))):
                        raise Failed(f"no {component} was left")
                load.flows()
                say("    one broker and one proxy evicted, the others protected, messages flow")
        finally:
            kubectl("uncordon", node)
        wait_ready()


def overload_of(namespace, seconds, topic="flood"):
    create_topic(topic, namespace=namespace)
    flood = ["bench", "send", f"--endpoint=bolide.{namespace}:8081", f"--topic={topic}", "--body-bytes=1000000", "--connections=16"]
    flood += ["--in-flight=800", f"--duration={seconds}s", "--quiet", "--address=127.0.0.1:1"]
    said = bench("flood", flood, namespace=namespace, seconds=seconds + 120, memory="3Gi", check=False)
    never_killed_for_memory(namespace)
    sizes = ", ".join(f"{name} {size:.0f} MiB" for name, size in resident(namespace).items())
    say("    800 sends of 1 MB at a time: " + " ".join(said.strip().splitlines()[-4:])[:400])
    say(f"    nobody was killed for memory; resident after it: {sizes}")


def overload():
    before = {one["metadata"]["name"]: restarts(one["metadata"]["name"]) for role in ("route", "broker", "proxy") for one in pods(role)}
    overload_of(NAMESPACE, 20)
    for name, count in before.items():
        if restarts(name) != count:
            raise Failed(f"{name} was restarted under overload")


def trust():
    return {name: get("secret", name)["data"] for name in ("bolide-internal-tls", "bolide-public-tls")}


def upgrade():
    before = trust()
    changed = ["--set", "external.type=NodePort", "--set", "broker.resources.limits.memory=1200Mi"]
    with nothing_fails("helm upgrade: another image, another size", **LEAVING):
        helm("helm", "upgrade", "bolide", str(CHART), *image_values(TAGS[1]), *changed, "--wait", "--timeout", WAIT)
        wait_ready()
    images = {c["image"] for role in ("route", "broker", "proxy") for one in pods(role) for c in one["spec"]["containers"]}
    if {image.rsplit(":", 1)[1] for image in images} != {TAGS[1]}:
        raise Failed(f"images after the upgrade: {images}")
    if trust() != before:
        raise Failed("the upgrade made new certificates")


def rollback():
    with nothing_fails("helm rollback", **LEAVING):
        helm("helm", "rollback", "bolide", "--wait", "--timeout", WAIT)
        wait_ready()
    images = {c["image"] for role in ("route", "broker", "proxy") for one in pods(role) for c in one["spec"]["containers"]}
    if {image.rsplit(":", 1)[1] for image in images} != {TAGS[0]}:
        raise Failed(f"images after the rollback: {images}")


def stop_load():
    final = load.stop()
    say(f"    {json.dumps(final)}")
    if final["waiting"] or final["out_of_order"] or final["after_ack"] or final["send_failed"] or final["phase"] != "Succeeded":
        raise Failed(f"{final['waiting']} lost, {final['after_ack']} acknowledged came again, {final['send_failed']} sends failed")
    say(
        f"    of {final['sent']} messages that were answered OK none was lost, none came again after its"
        " acknowledgement, and every message group kept its order"
    )


def reinstall():
    kept, topic = 500, f"kept-{int(time.time())}"
    create_topic(topic)
    send = ["bench", "send", f"--endpoint=bolide.{NAMESPACE}:8081", f"--topic={topic}", f"--messages={kept}", "--quiet", "--address=127.0.0.1:1"]
    bench("fill", send)
    claims = {one["metadata"]["name"] for one in get("pvc")["items"]}
    helm("helm", "uninstall", "bolide", "--wait", "--timeout", WAIT)
    until("the pods to go", lambda: not any(pods(component) for component in ("route", "broker", "proxy")))
    if {one["metadata"]["name"] for one in get("pvc")["items"]} != claims or len(claims) != 3:
        raise Failed("the volumes did not stay")
    helm("helm3", "install", "bolide", str(CHART), *image_values(TAGS[0]), "--wait", "--timeout", WAIT)
    wait_ready()
    receive = ["bench", "receive", f"--endpoint=bolide.{NAMESPACE}:8081", f"--topic={topic}", "--group=kept", f"--messages={kept}"]
    said = bench("take", [*receive, "--json", "--quiet", "--address=127.0.0.1:1", "--duration=60s"])
    taken = json.loads(said)["messages"]
    if taken != kept:
        raise Failed(f"{taken} of {kept} messages were there after the new installation")
    say(f"    uninstalled, volumes kept, installed again with Helm 3: all {kept} messages were there")


def remove():
    helm("helm", "uninstall", "bolide", "--wait", "--timeout", WAIT)
    for namespace in (NAMESPACE, STRANGERS):
        run("kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s")


def small():
    make_namespace(SMALL)
    values = ["-f", str(CHART / "values-small.yaml")]
    begun = time.monotonic()
    helm("helm3", "install", "bolide", str(CHART), *values, *image_values(TAGS[0]), "--wait", "--timeout", WAIT, namespace=SMALL)
    wait_ready(SMALL, 1, 1, 1)
    say(f"    Helm 3, values-small.yaml, --wait: {time.monotonic() - begun:.0f} s")
    sizes = resident(SMALL)
    say(f"    idle: {', '.join(f'{name} {size:.0f} MiB' for name, size in sizes.items())}; together {sum(sizes.values()):.0f} MiB")
    helm("helm", "test", "bolide", "--timeout", "120s", namespace=SMALL)
    create_topic("hello", namespace=SMALL)
    said = job("hello", CLIENT, ["/hello.py", f"bolide.{SMALL}:8081"], namespace=SMALL)
    say(f"    {said.strip().splitlines()[-1]}")
    overload_of(SMALL, 15)
    wait_ready(SMALL, 1, 1, 1)
    helm("helm", "test", "bolide", "--timeout", "120s", namespace=SMALL)
    say("    and it works afterwards")
    helm("helm3", "uninstall", "bolide", "--wait", "--timeout", WAIT, namespace=SMALL)
    run("kubectl", "delete", "namespace", SMALL, "--timeout=120s")


STEPS = [
    ("install", install),
    ("helm test", helm_test),
    ("client inside", client_inside),
    ("client through port-forward", client_port_forward),
    ("load", start_load),
    ("client through NodePort", node_port),
    ("strangers", strangers),
    ("kill broker", kill_broker),
    ("kill proxy", kill_proxy),
    ("kill route service", kill_route),
    ("rollout restart of the route service", lambda: rollout("statefulset/bolide-route")),
    ("rollout restart of the brokers", lambda: rollout("statefulset/bolide-broker")),
    ("rollout restart of the proxies", lambda: rollout("deployment/bolide-proxy")),
    ("drain", drain),
    ("upgrade", upgrade),
    ("rollback", rollback),
    ("end of the load", stop_load),
    ("overload", overload),
    ("reinstall", reinstall),
    ("remove", remove),
    ("small", small),
]


def diagnose():
    for namespace in (NAMESPACE, SMALL):
        say(f"\n---- {namespace}")
        for command in (
            ["get", "pods,services,pvc,pdb", "-o", "wide"],
            ["get", "events", "--sort-by=.lastTimestamp"],
            ["describe", "pods", "-l", "app.kubernetes.io/instance=bolide"],
        ):
            say(kubectl(*command, namespace=namespace, check=False).stdout[-6000:])
        for one in json.loads(kubectl("get", "pods", "-o", "json", namespace=namespace, check=False).stdout or '{"items":[]}')["items"]:
            name = one["metadata"]["name"]
            for more in ([], ["--previous"]):
                said = kubectl("logs", name, f"--tail={1 if name == 'load' else 25}", *more, namespace=namespace, check=False).stdout
                if said:
                    say(f"---- logs of {name} {' '.join(more)}\n{said}")


def main():
    begun = time.monotonic()
    for name, step in STEPS:
        if ONLY and name not in ONLY:
            continue
        say(f"==> {time.strftime('%T')} {name}")
        at = time.monotonic()
        try:
            step()
        except (Failed, subprocess.TimeoutExpired, AssertionError, KeyError, AttributeError, StopIteration) as error:
            failure = f"<== {name}: FAILED after {time.monotonic() - at:.0f} s: {type(error).__name__}: {error}"
            say(failure)
            diagnose()
            # Again, where one looks first.
            say(f"\n{failure}\nkube-test: failed at: {name}")
            sys.exit(1)
        say(f"<== {name}: ok, {time.monotonic() - at:.0f} s")
    say(f"kube-test: all {len(ONLY) or len(STEPS)} steps passed in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
