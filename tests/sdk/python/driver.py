"""The suite's side of the contract in ../README.md: requests to the driver, results of cases."""

import os
import sys
import threading
import time
import traceback

ENDPOINT = os.environ["BOLIDE_ENDPOINT"]
PREFIX = os.environ["BOLIDE_TOPIC_PREFIX"]
TLS = os.environ.get("BOLIDE_TLS") == "1"

_printing = threading.Lock()
_requesting = threading.Lock()
_failed = []
# Push clients, and those whose start was tried again.
_started = []
_restarted = []


def say(line):
    """Prints one line that no other thread can break into."""
    with _printing:
        sys.stdout.write(line.replace("\n", " | ") + "\n")
        sys.stdout.flush()


def request(words):
    """Asks the driver for something and waits until it is done."""
    with _requesting:
        say("REQUEST " + words)
        answer = sys.stdin.readline().strip()
    if answer != "DONE":
        raise RuntimeError(f"{words}: {answer or 'no answer'}")


def topic(name):
    """Creates a topic and returns its full name."""
    full = PREFIX + name
    request(f"topic {full}")
    return full


def group(name, options=""):
    """The full name of a group; created only when it needs options."""
    full = PREFIX + name
    if options:
        request(f"group {full} {options}")
    return full


def run(case):
    """Runs one case function and reports it under its name."""
    begun = time.monotonic()
    try:
        case()
    except BaseException as error:
        traceback.print_exc()
        _failed.append(case.__name__)
        say(f"CASE {case.__name__} FAIL {type(error).__name__}: {error}")
    else:
        say(f"CASE {case.__name__} OK")
    say(f"{case.__name__} took {time.monotonic() - begun:.1f} s")


def start_push(make):
    """Makes a push client and starts it; once a run, a start that heard no settings is tried again, and said aloud.

    The client asks for its settings once while it starts and waits 10 s for them: if its stream breaks on the way, it never
    asks again. Seen once in some hundred starts, on a loaded machine; the cause was not found, so it is allowed once a run.
    """
    client = make()
    # Whoever drops it would end its consuming.
    _started.append(client)
    try:
        client.startup()
        return client
    except Exception as error:
        cause = error.__context__ or error
        if "failed to receive initial settings" not in str(cause) or _restarted:
            raise
        _restarted.append(client)
        say(f"starting again after {cause}")
    client = make()
    _started.append(client)
    client.startup()
    return client


def run_together(cases):
    """Runs cases side by side and returns when all have ended."""
    threads = [threading.Thread(target=run, args=(case,), daemon=True) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def finish():
    """Ends the process. The client keeps threads that would hold an ordinary exit up for ever."""
    say("failed: " + (", ".join(_failed) or "none"))
    os._exit(1 if _failed else 0)


def wait_for(what, condition, seconds):
    """Waits until `condition()` is true and returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def retry(action, seconds):
    """Repeats an action that may fail for a while, as after a restart, until it succeeds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except Exception as error:
            if time.monotonic() >= deadline:
                raise
            say(f"trying again after {type(error).__name__}: {error}")
            time.sleep(0.2)
