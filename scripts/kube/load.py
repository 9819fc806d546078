"""Load and its checker, with the official Python client: sends numbered messages, receives and acknowledges them, and tells
once a second, as a line of JSON, what was sent, what came back, which calls failed and which promises were broken.

    load.py ENDPOINT TOPIC GROUP [MESSAGES A SECOND]

SIGTERM ends the sending; what was sent is still awaited. The last line has "over": true. Exit code 0: nothing was lost, nothing
acknowledged came again, no send failed.

Each client runs in a process of its own, so that each has a connection of its own and they meet different proxies.
"""

import collections
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
            events.put(("send failed", key, repr(error)))
        number += 1
        stop.wait(max(0.0, pause - (time.monotonic() - begun)))
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
            events.put(("receive failed", name, repr(error)))
            over.wait(0.2)
            continue
        for message in messages:
            key = message.body.decode()
            ours = key.startswith(run)
            if ours:
                events.put(("received", key, None))
            try:
                consumer.ack(message)
                if ours:
                    events.put(("acked", key, None))
            except Exception as error:
                # The message comes again when its lease is over.
                events.put(("ack failed", key, repr(error)))



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
        self.failed = {"send failed": 0, "receive failed": 0, "ack failed": 0}
        self.errors = collections.deque(maxlen=ERRORS_KEPT)
        self.waiting = set()
        self.seen = set()
        self.acked = set()
        self.started = set()
        self.stopped = set()
        self.slowest = 0.0

    def note(self, kind, key, extra):
        if kind == "started":
            self.started.add(key)
        elif kind == "stopped":
            self.stopped.add(key)
        elif kind == "sent":
            self.count["sent"] += 1
            self.slowest = max(self.slowest, extra)
            if key not in self.seen:
                self.waiting.add(key)
        elif kind == "received":
            self.count["received"] += 1
            self.count["redelivered"] += key in self.seen
            # Its acknowledgement was answered OK: it must never be seen again.
            self.count["after_ack"] += key in self.acked
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
                    "waiting": len(self.waiting),
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
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    book, told, ending = Book(), time.monotonic(), None
    while True:
        try:
            book.note(*events.get(timeout=0.2))
        except queue.Empty:
            pass
        now = time.monotonic()
        if stop.is_set() and ending is None:
            ending = now
        if ending is not None:
            all_there = len(book.stopped) == PRODUCERS and not book.waiting and events.empty()
            if all_there or now - ending > PATIENCE_SECONDS:
                break
        if now - told >= 1.0:
            told = now
            book.line(over=False)
    over.set()
    book.line(over=True)
    broken = book.waiting or book.count["after_ack"] or book.failed["send failed"] or not book.count["sent"]
    os._exit(1 if broken else 0)


if __name__ == "__main__":
    main()
