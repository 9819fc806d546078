"""Load and its checker, with the official Python client: sends numbered messages, receives and acknowledges them, and tells
once a second, as a line of JSON, what was sent, what came back, which calls failed and which promises were broken.

    load.py ENDPOINT TOPIC GROUP [MESSAGES A SECOND]

Beside TOPIC there must be TOPIC-ordered, of type FIFO: messages with message groups, whose order is checked. A message group
lies on one broker; while that one is away its producer tries again, as any application would that wants order.

SIGTERM ends the sending; what was sent is still awaited. The last line has "over": true. Exit code 0: nothing was lost, nothing
acknowledged came again, no send failed.

Each client runs in a process of its own, so that each has a connection of its own and they meet different proxies.
"""

import collections
import itertools
import json
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import uuid

from rocketmq import ClientConfiguration, Credentials, FilterExpression, Message, Producer, SimpleConsumer

PRODUCERS = 2
CONSUMERS = 2
ORDERED_GROUPS = 8
ORDERED_PAUSE_SECONDS = 0.1
CLIENTS = PRODUCERS + 2 * CONSUMERS + 1
LEASE_SECONDS = 20
POLL_SECONDS = 5
# Longer than a lease: what a killed consumer or proxy held comes back after it.
PATIENCE_SECONDS = 90
ERRORS_KEPT = 6


def started(make):
    """A client that has started; a cluster that has just been installed may need another attempt."""
    while True:
        client = make()
        try:
            client.startup()
            return client
        except Exception as error:
            print(f"starting again after {error!r}", file=sys.stderr, flush=True)
            time.sleep(1)


def how(error):
    """What a call died of. Two causes lie in the client's library and are counted apart: it found nobody to connect to (while
    the address of a dead proxy is still among those of the service, half of the attempts end there, and the three attempts of
    a send follow each other at once); or it was about to begin on a connection just when the proxy said that it would take
    nothing new, and the library cancelled it without a word to the proxy, as this client has the library's own retries off."""
    words = str(error)
    if "failed to connect to all addresses" in words:
        return "refused"
    return "going away" if "GOAWAY" in words else "failed"


def produce(endpoint, topic, run, name, pause, events, stop):
    configuration = ClientConfiguration(endpoint, Credentials("", ""))
    producer = started(lambda: Producer(configuration, (topic,), tls_enable=False))
    number = 0
    events.put(("started", name, None))
    while not stop.is_set():
        begun = time.monotonic()
        key = f"{run}-{name}-{number}"
        message = Message()
        message.topic = topic
        message.keys = key
        message.body = key.encode()
        try:
            producer.send(message)
            events.put(("sent", key, time.monotonic() - begun))
        except Exception as error:
            # Whether it is stored is not known; it may arrive.
            events.put((f"send {how(error)}", key, repr(error)))
        number += 1
        stop.wait(max(0.0, pause - (time.monotonic() - begun)))
    events.put(("stopped", name, None))


def produce_ordered(endpoint, topic, run, name, events, stop):
    configuration = ClientConfiguration(endpoint, Credentials("", ""))
    producer = started(lambda: Producer(configuration, (topic,), tls_enable=False))
    events.put(("started", name, None))
    number = 0
    while not stop.is_set():
        group = number % ORDERED_GROUPS
        for attempt in itertools.count():
            key = f"{run}-{name}-{group}-{number}-{attempt}"
            message = Message()
            message.topic = topic
            message.keys = key
            message.body = key.encode()
            message.message_group = f"{run}-{group}"
            begun = time.monotonic()
            try:
                producer.send(message)
                events.put(("sent", key, time.monotonic() - begun))
                break
            except Exception as error:
                events.put(("ordered send again", key, repr(error)))
                # Ended without knowing whether it is stored: it may arrive, and nothing follows it.
                if stop.wait(0.2):
                    break
        number += 1
        stop.wait(ORDERED_PAUSE_SECONDS)
    events.put(("stopped", name, None))


def consume(endpoint, topic, group, run, name, events, over):
    configuration = ClientConfiguration(endpoint, Credentials("", ""))
    consumer = started(
        lambda: SimpleConsumer(configuration, group, {topic: FilterExpression("*")}, await_duration=POLL_SECONDS, tls_enable=False)
    )
    events.put(("started", name, None))
    while not over.is_set():
        try:
            messages = consumer.receive(16, LEASE_SECONDS)
        except Exception as error:
            events.put((f"receive {how(error)}", name, repr(error)))
            over.wait(0.2)
            continue
        for message in messages:
            key = message.body.decode()
            ours = key.startswith(run)
            if ours:
                events.put(("received", key, (time.monotonic(), message.delivery_attempt)))
            try:
                consumer.ack(message)
                if ours:
                    events.put(("acked", key, None))
            except Exception as error:
                # The message comes again when its lease is over.
                events.put((f"ack {how(error)}", key, repr(error)))



def child(function, *arguments):
    def run():
        # The parent decides when it is over.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=function, args=arguments, daemon=True).start()
        # The client keeps threads that would hold an ordinary exit up for ever.
        arguments[-1].wait()
        time.sleep(POLL_SECONDS + 5)
        os._exit(0)

    process = multiprocessing.Process(target=run, daemon=True)
    process.start()
    return process


class Book:
    """What was promised, and what became of it."""

    def __init__(self):
        self.count = {name: 0 for name in ("sent", "received", "acked", "redelivered", "after_ack")}
        kinds = [f"{call} {end}" for call in ("send", "receive", "ack") for end in ("failed", "refused", "going away")]
        self.failed = dict.fromkeys([*kinds, "ordered send again"], 0)
        self.errors = collections.deque(maxlen=ERRORS_KEPT)
        self.waiting = set()
        self.seen = set()
        self.acked = set()
        self.copied = set()
        self.answered = set()
        self.started = set()
        self.stopped = set()
        self.slowest = 0.0
        # Of each message group: when each number came for the first time.
        self.first = collections.defaultdict(list)

    def out_of_order(self):
        """Messages that came for the first time after a later one of their group. By the clock, which all processes share."""
        found = 0
        for seen in self.first.values():
            # What was not answered OK may have been stored at any time.
            numbers = [int(key.split("-")[3]) for _, key in sorted(seen) if key in self.answered]
            found += sum(later < earlier for earlier, later in zip(numbers, numbers[1:]))
        return found

    def note(self, kind, key, extra):
        if kind == "started":
            self.started.add(key)
        elif kind == "stopped":
            self.stopped.add(key)
        elif kind == "sent":
            self.count["sent"] += 1
            self.answered.add(key)
            self.slowest = max(self.slowest, extra)
            if key not in self.seen:
                self.waiting.add(key)
        elif kind == "received":
            at, attempt = extra
            self.count["received"] += 1
            if key in self.acked and attempt == 1:
                # A send whose answer was lost, and that the client repeated, is there twice.
                self.copied.add(key)
            elif key in self.acked and key not in self.copied:
                self.count["after_ack"] += 1
            self.count["redelivered"] += key in self.seen
            if key not in self.seen and key.count("-") == 4:
                self.first[key.split("-")[2]].append((at, key))
            self.seen.add(key)
            self.waiting.discard(key)
        elif kind == "acked":
            self.count["acked"] += 1
            self.acked.add(key)
        else:
            self.failed[kind] += 1
            self.errors.append(f"{time.strftime('%T')} {kind}: {key}: {extra[:160]}")

    def line(self, over):
        print(
            json.dumps(
                {
                    "over": over,
                    **self.count,
                    "copied": len(self.copied),
                    "waiting": len(self.waiting),
                    "out_of_order": self.out_of_order(),
                    **{name.replace(" ", "_"): count for name, count in self.failed.items()},
                    "started": len(self.started),
                    "slowest_send": round(self.slowest, 3),
                    "errors": list(self.errors),
                    "missing": sorted(self.waiting)[:5] if over else [],
                }
            ),
            flush=True,
        )
        self.slowest = 0.0


def main():
    endpoint, topic, group = sys.argv[1:4]
    rate = float(sys.argv[4]) if len(sys.argv) > 4 else 60.0
    run = uuid.uuid4().hex[:8]
    events = multiprocessing.Queue()
    stop, over = multiprocessing.Event(), multiprocessing.Event()
    pause = PRODUCERS / rate
    for number in range(PRODUCERS):
        child(produce, endpoint, topic, run, f"p{number}", pause, events, stop)
    for number in range(CONSUMERS):
        child(consume, endpoint, topic, group, run, f"c{number}", events, over)
        child(consume, endpoint, f"{topic}-ordered", f"{group}-ordered", run, f"oc{number}", events, over)
    child(produce_ordered, endpoint, f"{topic}-ordered", run, "o", events, stop)
    # Not `stop` itself: its lock may be held by what the signal interrupts.
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    book, told, ending = Book(), time.monotonic(), None
    while True:
        try:
            book.note(*events.get(timeout=0.2))
        except queue.Empty:
            pass
        now = time.monotonic()
        if asked and ending is None:
            stop.set()
            ending = now
        if ending is not None:
            all_there = len(book.stopped) == PRODUCERS + 1 and not book.waiting and events.empty()
            if all_there or now - ending > PATIENCE_SECONDS:
                break
        if now - told >= 1.0:
            told = now
            book.line(over=False)
    over.set()
    book.line(over=True)
    broken = book.waiting or book.count["after_ack"] or book.failed["send failed"] or book.out_of_order()
    broken = broken or not book.count["sent"] or not book.first
    os._exit(1 if broken else 0)


if __name__ == "__main__":
    main()
