"""Lints and renders the chart with Helm 3 and Helm 4 for many sets of values, and checks what comes out.

    check_chart.py CHART SCHEMAS HELM...

Each manifest is checked strictly against the schema of its kind; then what no schema knows: that the pods keep to the Pod
Security level `restricted`, that services find their pods and policies theirs, that what is mounted exists. At last come
values that make no sense: each must be refused with words that tell what to do.
"""

import itertools
import json
import re
import subprocess
import sys

import fastjsonschema
from ruamel.yaml import YAML

READER = YAML(typ="safe", pure=True)

EXTERNAL_PEER = {"namespaceSelector": {"matchLabels": {"team": "orders"}}}
SETS = {
    "default": {},
    "small": "values-small.yaml",
    "many": {"broker": {"replicas": 9}, "proxy": {"replicas": 7}},
    "load-balancer": {
        "external": {
            "type": "LoadBalancer",
            "advertise": "mq.example.com:8081",
            "hostnames": ["mq.example.com"],
            "annotations": {"example.com/internal": "false"},
            "loadBalancerClass": "example.com/fast",
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "externalTrafficPolicy": "Local",
        }
    },
    "node-port": {"external": {"type": "NodePort", "nodePort": 30081}},
    "gateway": {
        "external": {
            "type": "ClusterIP",
            "advertise": "mq.example.com:443",
            "gateway": {
                "enabled": True,
                "parentRefs": [{"name": "public", "namespace": "infra"}],
                "hostnames": ["mq.example.com"],
            },
        }
    },
    "ingress": {
        "external": {
            "type": "ClusterIP",
            "advertise": "mq.example.com:443",
            "ingress": {"enabled": True, "className": "nginx", "host": "mq.example.com", "tlsSecret": "mq-tls"},
        }
    },
    "cert-manager": {
        "internalTls": {"certManager": {"enabled": True}},
        "tls": {"certManager": {"enabled": True, "issuerRef": {"name": "public", "kind": "ClusterIssuer"}}},
    },
    "cert-manager-issuer": {"internalTls": {"certManager": {"enabled": True, "issuerRef": {"name": "house"}}}},
    "own-secrets": {"internalTls": {"existingSecret": "theirs"}, "tls": {"existingSecret": "theirs-too"}},
    "secret-only": {"internalTls": {"enabled": False}},
    "own-secret-only": {"internalTls": {"enabled": False}, "clusterSecret": {"existingSecret": "theirs"}},
    "autoscaling": {"proxy": {"autoscaling": {"enabled": True, "maxReplicas": 20}}},
    "metrics": {
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True},
            "dashboards": {"enabled": True, "annotations": {"folder": "queues"}},
        }
    },
    "no-volumes": {
        "broker": {"replicas": 1, "persistence": {"enabled": False}},
        "route": {"persistence": {"enabled": False}},
    },
    "placed": {
        "imagePullSecrets": [{"name": "registry"}],
        "commonLabels": {"team": "platform"},
        "route": {"antiAffinity": "none", "priorityClassName": "high"},
        "broker": {
            "antiAffinity": "hard",
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "disk", "operator": "Exists"}],
            "persistence": {"storageClass": "fast", "annotations": {"a": "b"}},
            "podAnnotations": {"a": "b"},
            "podLabels": {"c": "d"},
            "extraEnv": [{"name": "RUST_LOG", "value": "debug"}],
        },
        "proxy": {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]
                    }
                }
            },
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
            ],
        },
    },
    "settings": {
        "config": {"storage.retention_age": "168h", "observe.log_format": "json", "limits.max_topics": 500},
        "broker": {"config": {"storage.block_cache": "64MiB"}},
    },
    "closed": {"networkPolicy": {"clientsFrom": [EXTERNAL_PEER], "metricsFrom": [EXTERNAL_PEER]}},
    "open": {"networkPolicy": {"enabled": False}, "serviceAccount": {"create": False}},
    "foreign-users": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
}

# Values that make no sense, and words that must be in the refusal.
REFUSED = [
    ({"route": {"replicas": 2}}, ["route.replicas", "must be 1"]),
    ({"broker": {"replicas": 0}}, ["broker", "replicas", "1"]),
    ({"broker": {"replicas": "two"}}, ["broker", "replicas", "integer"]),
    ({"brokers": {"replicas": 3}}, ["brokers"]),
    ({"proxy": {"replica": 3}}, ["replica"]),
    ({"broker": {"persistence": {"size": "big"}}}, ["size"]),
    ({"broker": {"persistence": {"enabled": False}}}, ["broker.persistence.enabled", "lose messages"]),
    (
        {"broker": {"replicas": 1, "persistence": {"enabled": False}}},
        ["route.persistence.enabled", "belong together"],
    ),
    ({"config": {"storage": {"retention_age": "1h"}}}, ["config"]),
    ({"config": {"server.listen": "0.0.0.0:1"}}, ["server.listen", "decided by the chart"]),
    ({"broker": {"config": {"cluster.route": "elsewhere:1"}}}, ["cluster.route", "decided by the chart"]),
    ({"config": {"server.drain_timeout": "5s"}}, ["drainSeconds"]),
    ({"config": {"server.advertise": "a:1"}}, ["service.advertise"]),
    ({"external": {"type": "Loadbalancer"}}, ["external", "type"]),
    ({"external": {"type": "LoadBalancer", "advertise": "no port"}}, ["advertise"]),
    ({"external": {"advertise": "mq.example.com:8081"}}, ["external.advertise", "type is none"]),
    ({"external": {"nodePort": 30081}}, ["external.nodePort", "NodePort"]),
    ({"external": {"gateway": {"enabled": True}}}, ["external.type=ClusterIP"]),
    ({"external": {"type": "ClusterIP", "gateway": {"enabled": True}}}, ["parentRefs", "name the Gateway"]),
    ({"external": {"type": "ClusterIP", "ingress": {"enabled": True}}}, ["external.ingress", "host and tlsSecret"]),
    ({"proxy": {"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}}}, ["minReplicas is larger"]),
    (
        {"proxy": {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}},
        ["proxy.resources.requests.cpu"],
    ),
    ({"broker": {"resources": {"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}}}}, ["too little"]),
    ({"broker": {"resources": {"requests": {"memory": "2Gi"}}}}, ["requests more memory"]),
    ({"broker": {"resources": {"limits": {"memory": "lots"}}}}, ["memory"]),
    ({"tls": {"existingSecret": "a", "certManager": {"enabled": True}}}, ["not both"]),
    ({"tls": {"certManager": {"enabled": True}}}, ["which issuer"]),
    ({"internalTls": {"existingSecret": "a", "certManager": {"enabled": True}}}, ["internalTls", "not both"]),
    ({"image": {"repository": "bolide:1"}}, ["repository"]),
]

KUBERNETES = "1.37.2"
COMPONENT = "app.kubernetes.io/component"
problems = []


def problem(where, text):
    problems.append(f"{where}: {text}")


def helm(binary, *arguments, values=None):
    command = [binary, *arguments]
    if arguments[0] in ("lint", "template"):
        # What Helm takes for the version of a cluster that it does not ask depends on how it was built.
        command += ["--kube-version", KUBERNETES]
    text = None
    if isinstance(values, str):
        command += ["-f", f"{sys.argv[1]}/{values}"]
    elif values is not None:
        command += ["-f", "-"]
        text = json.dumps(values)
    return subprocess.run(command, input=text, capture_output=True, text=True)


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def pods_of(objects):
    """Each pod template with the object that makes it."""
    for one in objects:
        if one["kind"] == "Pod":
            yield one, one["metadata"], one["spec"]
        elif one["kind"] in ("StatefulSet", "Deployment"):
            yield one, one["spec"]["template"]["metadata"], one["spec"]["template"]["spec"]


def name_of(one):
    return f"{one['kind']} {one['metadata']['name']}"


def check_restricted(where, spec):
    """The rules of Pod Security `restricted` that can be broken here."""
    pod = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            problem(where, f"{key} is set")
    for volume in spec.get("volumes", []):
        if not {"configMap", "emptyDir", "secret", "persistentVolumeClaim", "projected"} & set(volume):
            problem(where, f"volume {volume['name']} is of a kind that restricted forbids")
    for container in spec["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            problem(where, "privileges may be escalated")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own.get("capabilities", {}).get("add"):
            problem(where, "capabilities are kept")
        if not own.get("runAsNonRoot", pod.get("runAsNonRoot")):
            problem(where, "may run as root")
        if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") != "RuntimeDefault":
            problem(where, "no seccomp profile")
        if own.get("readOnlyRootFilesystem") is not True:
            problem(where, "can write to its root file system")
        if any("hostPort" in port for port in container.get("ports", [])):
            problem(where, "takes a port of its node")


def check_pod(where, name, spec, secrets, given):
    check_restricted(where, spec)
    if spec.get("automountServiceAccountToken") is not False:
        problem(where, "mounts a token")
    if spec.get("enableServiceLinks") is not False:
        problem(where, "gets variables of services, which can look like settings")
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for volume in volumes.values():
        secret = volume.get("secret", {}).get("secretName")
        if secret and secret not in secrets and secret not in given:
            problem(where, f"mounts the secret {secret}, which nobody makes")
    for container in spec["containers"]:
        variables = [variable["name"] for variable in container.get("env", [])]
        for twice in sorted({name for name in variables if variables.count(name) > 1}):
            problem(where, f"{twice} is set twice")
        if "memory" not in container.get("resources", {}).get("limits", {}):
            problem(where, f"{container['name']} has no memory limit")
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes and mount["name"] != "data":
                problem(where, f"mounts {mount['name']}, which is no volume")
        for variable in container.get("env", []):
            value = str(variable.get("value", ""))
            if value.startswith("/etc/") and not any(
                value.startswith(mount["mountPath"] + "/") for mount in container["volumeMounts"]
            ):
                problem(where, f"{variable['name']} names {value}, where nothing is mounted")


def check(where, objects, values):
    given = set(re.findall(r'"(theirs[a-z-]*)"', json.dumps(values)))
    pods = list(pods_of(objects))
    secrets = {one["metadata"]["name"] for one in objects if one["kind"] == "Secret"}
    secrets |= {one["spec"]["secretName"] for one in objects if one["kind"] == "Certificate"}
    names = [name_of(one) for one in objects]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        problem(where, f"{twice} is made twice")
    roles = {meta["labels"][COMPONENT]: (one, meta, spec) for one, meta, spec in pods}
    if set(roles) != {"route", "broker", "proxy", "test"}:
        problem(where, f"pods of {sorted(roles)}")
        return
    services = [one for one in objects if one["kind"] == "Service"]
    for one, meta, spec in pods:
        check_pod(f"{where}: {name_of(one)}", one["metadata"]["name"], spec, secrets, given)
        if one["kind"] == "Pod":
            continue
        if not matches(one["spec"]["selector"]["matchLabels"], meta["labels"]):
            problem(where, f"{name_of(one)} does not select its own pods")
        environment = {variable["name"]: variable.get("value") for variable in spec["containers"][0]["env"]}
        drain = int(environment["BOLIDE_SERVER_DRAIN_TIMEOUT"].removesuffix("s"))
        pause = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        # The store may take 20 s to close on top.
        if spec["terminationGracePeriodSeconds"] < drain + pause + 20:
            problem(where, f"{name_of(one)} is killed before it has drained")
        if one["kind"] == "StatefulSet":
            service = next((s for s in services if s["metadata"]["name"] == one["spec"]["serviceName"]), None)
            if service is None or service["spec"].get("clusterIP") != "None":
                problem(where, f"{name_of(one)} has no headless service")
            elif not service["spec"].get("publishNotReadyAddresses"):
                problem(where, f"{name_of(service)} hides pods that are not ready yet")
    for service in services:
        chosen = [spec for _, meta, spec in pods if matches(service["spec"]["selector"], meta["labels"])]
        if len(chosen) != 1:
            problem(where, f"{name_of(service)} finds {len(chosen)} kinds of pods")
            continue
        known = {port["name"] for container in chosen[0]["containers"] for port in container["ports"]}
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in known:
                problem(where, f"{name_of(service)} points to port {port['targetPort']}, which no container has")
        public = service["spec"].get("type", "ClusterIP") != "ClusterIP"
        if public and {"internal", "http"} & {port["targetPort"] for port in service["spec"]["ports"]}:
            problem(where, f"{name_of(service)} shows an internal port to the world")
    policies = [one for one in objects if one["kind"] == "NetworkPolicy"]
    for role in ("route", "broker", "proxy") if policies else ():
        covering = [p for p in policies if matches(p["spec"]["podSelector"]["matchLabels"], roles[role][1]["labels"])]
        rules = list(itertools.chain.from_iterable(policy["spec"]["ingress"] for policy in covering))
        internal = [rule for rule in rules if any(port["port"] == "internal" for port in rule["ports"])]
        if len(internal) != 1 or not all("podSelector" in peer for peer in internal[0].get("from", [{}])):
            problem(where, f"the internal port of {role} is not closed")
        if any("ports" not in rule for rule in rules):
            problem(where, f"a policy opens every port of {role}")
    for budget in (one for one in objects if one["kind"] == "PodDisruptionBudget"):
        if not any(matches(budget["spec"]["selector"]["matchLabels"], meta["labels"]) for _, meta, _ in pods):
            problem(where, f"{name_of(budget)} protects nobody")
    for one in objects:
        if one["kind"] == "ConfigMap":
            for name, text in one["data"].items():
                json.loads(text)


def mib(quantity):
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(quantity)).groups()
    return float(number) * {"Mi": 1, "Gi": 1024, "Ki": 1 / 1024}[unit]


def check_small(objects):
    total = 0
    for one, _, spec in pods_of(objects):
        if one["kind"] != "Pod":
            limits = (mib(container["resources"]["limits"]["memory"]) for container in spec["containers"])
            total += one["spec"].get("replicas", 1) * sum(limits)
    if total > 256:
        problem("small", f"the limits sum up to {total:.0f} MiB, more than 256")


def main():
    chart, schemas_path, *helms = sys.argv[1:]
    with open(schemas_path) as file:
        schemas = json.load(file)
    validators = {}
    count = 0
    for binary in helms:
        version = helm(binary, "version", "--short").stdout.strip()
        for name, values in SETS.items():
            where = f"{version.split('+')[0]} {name}"
            linted = helm(binary, "lint", "--strict", "--quiet", chart, values=values)
            if linted.returncode:
                problem(where, linted.stdout + linted.stderr)
                continue
            rendered = helm(binary, "template", "bolide", chart, "--namespace", "queues", values=values)
            if rendered.returncode:
                problem(where, rendered.stderr)
                continue
            objects = [one for one in READER.load_all(rendered.stdout) if one]
            for one in objects:
                kind = f"{one['apiVersion']}/{one['kind']}"
                if kind not in schemas:
                    problem(where, f"nothing is known about {kind}")
                    continue
                if kind not in validators:
                    validators[kind] = fastjsonschema.compile(schemas[kind])
                try:
                    validators[kind](one)
                except fastjsonschema.JsonSchemaException as error:
                    problem(where, f"{name_of(one)}: {error.message}")
                count += 1
            check(where, objects, values)
            if name == "small":
                check_small(objects)
        for values, words in REFUSED:
            refused = helm(binary, "template", "bolide", chart, values=values)
            where = f"{version.split('+')[0]} {json.dumps(values)}"
            if refused.returncode == 0:
                problem(where, "is not refused")
            elif missing := [word for word in words if word not in refused.stderr]:
                problem(where, f"the refusal does not say {missing}: {refused.stderr.strip()}")
    for text in problems:
        print(f"PROBLEM {text}")
    print(
        f"{len(SETS)} sets of values, {count} manifests against their schemas, {len(REFUSED)} refusals,"
        f" {len(helms)} versions of Helm: {len(problems)} problems"
    )
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
