"""Cases of the official Python client; what each proves is in ../README.md."""

import os
import random
import threading
import time

import driver
import kinds
from driver import group, retry, topic, wait_for

# Importing the client creates ~/logs/rocketmq_python; the driver's HOME makes that a fresh directory.
from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
)

LOG = os.path.expanduser("~/logs/rocketmq_python/rocketmq_client.log")
INVALID_RECEIPT_HANDLE = 40013
# Seconds. The server's shortest poll, and the shortest lease it was configured to allow.
POLL = 5
SHORT_LEASE = 1
# The back-off before a push consumer's second attempt is 1 s to 10 s; the rest is patience.
SECOND_ATTEMPT = 40


def configuration():
    return ClientConfiguration(driver.ENDPOINT, Credentials("", ""))


def producer(*topics):
    client = Producer(configuration(), topics, tls_enable=driver.TLS)
    client.startup()
    return client


def simple_consumer(group_name, topic_name, expression="*"):
    client = SimpleConsumer(
        configuration(),
        group_name,
        {topic_name: FilterExpression(expression)},
        await_duration=POLL,
        tls_enable=driver.TLS,
    )
    client.startup()
    return client


def push_consumer(group_name, topic_name, listener):
    return driver.start_push(
        lambda: PushConsumer(
            configuration(),
            group_name,
            listener,
            {topic_name: FilterExpression("*")},
            tls_enable=driver.TLS,
        )
    )


class Recorder(MessageListener):
    """Keeps what it was given; fails the attempts below `succeed_from`."""

    def __init__(self, succeed_from=1):
        self.succeed_from = succeed_from
        self.seen = []
        self._guard = threading.Lock()

    def consume(self, message):
        with self._guard:
            self.seen.append(message)
        good = message.delivery_attempt >= self.succeed_from
        return ConsumeResult.SUCCESS if good else ConsumeResult.FAILURE

    def attempts(self, message_id):
        return [m.delivery_attempt for m in self.seen if m.message_id == message_id]


def message(topic_name, body, tag=None, keys=(), properties=None):
    built = Message()
    built.topic = topic_name
    built.body = body
    if tag is not None:
        built.tag = tag
    for key in keys:
        built.keys = key
    for name, value in (properties or {}).items():
        built.add_property(name, value)
    return built


def receive_all(consumer, wanted, seconds=30, lease=30):
    """Receives until `wanted` message ids have been seen; returns them by id. Acks nothing."""
    found = {}
    deadline = time.monotonic() + seconds
    while not wanted <= found.keys():
        missing = sorted(wanted - found.keys())
        assert time.monotonic() < deadline, f"not received within {seconds} s: {missing}"
        for received in consumer.receive(32, lease):
            assert received.message_id not in found, f"twice: {received.message_id}"
            found[received.message_id] = received
    return found


def receive_one(consumer, message_id, seconds=30, lease=30):
    found = receive_all(consumer, {message_id}, seconds, lease)
    assert len(found) == 1, f"others came too: {sorted(found)}"
    return found[message_id]


def assert_nothing_left(consumer):
    left = consumer.receive(32, 30)
    assert not left, f"delivered again: {[m.message_id for m in left]}"


def code_of(action):
    """The status code an action was refused with, 0 if it was not."""
    try:
        action()
    except Exception as error:
        code = getattr(error, "code", None)
        assert isinstance(code, int), f"refused without a code: {error!r}"
        return code
    return 0


def send_receive_ack():
    name = topic("plain")
    sender, consumer = producer(name), simple_consumer(group("plain"), name)
    bodies = [b"\x00", bytes(range(256)), random.Random(7).randbytes(1 << 20)]
    sent = {}
    for number, body in enumerate(bodies):
        keys = (f"key-{number}", f"other-{number}")
        properties = {"number": str(number), "text": "Grüße, 世界"}
        built = message(name, body, "tag-1", keys, properties)
        sent[sender.send(built).message_id] = (body, set(keys), properties)
    found = receive_all(consumer, sent.keys(), lease=SHORT_LEASE * 5)
    assert found.keys() == sent.keys(), f"strangers: {sorted(found.keys() - sent.keys())}"
    for identity, (body, keys, properties) in sent.items():
        got = found[identity]
        assert got.body == body, f"body of {len(body)} bytes differs"
        assert not got.corrupted
        assert (got.topic, got.tag, got.keys) == (name, "tag-1", keys)
        assert got.properties == properties, got.properties
        assert got.delivery_attempt == 1, got.delivery_attempt
        consumer.ack(got)
    # One poll is as long as the lease was: a lost ack would show.
    assert_nothing_left(consumer)
    sender.shutdown()
    consumer.shutdown()


def two_topics_one_producer():
    names = [topic("two-a"), topic("two-b")]
    begun = time.monotonic()
    sender = producer(*names)
    assert time.monotonic() - begun < 10, "slow start"
    for name in names:
        identity = sender.send(message(name, name.encode())).message_id
        consumer = simple_consumer(group(f"two-{name[-1]}"), name)
        got = receive_one(consumer, identity)
        assert (got.topic, got.body) == (name, name.encode())
        consumer.ack(got)
        consumer.shutdown()
    sender.shutdown()


def tag_filter():
    name = topic("tags")
    sender = producer(name)
    some, everything = (
        simple_consumer(group("tags-some"), name, "A || B"),
        simple_consumer(group("tags-all"), name, "*"),
    )
    ids = {}
    for tag in ["A", "B", "C", "AB", None]:
        ids[tag] = sender.send(message(name, str(tag).encode(), tag)).message_id
    found = receive_all(everything, set(ids.values()))
    assert {found[ids[tag]].tag for tag in ids} == set(ids)
    wanted = {ids["A"], ids["B"]}
    found = receive_all(some, wanted)
    assert found.keys() == wanted, [m.tag for m in found.values()]
    for got in found.values():
        some.ack(got)
    assert_nothing_left(some)


def nack_redelivers():
    name = topic("nack")
    sender, consumer = producer(name), simple_consumer(group("nack"), name)
    identity = sender.send(message(name, b"again")).message_id
    first = receive_one(consumer, identity)
    assert first.delivery_attempt == 1
    begun = time.monotonic()
    consumer.change_invisible_duration(first, 1)
    second = receive_one(consumer, identity)
    assert time.monotonic() - begun < 10, "the long first lease was kept"
    assert (second.delivery_attempt, second.body) == (2, b"again")
    consumer.ack(second)
    assert_nothing_left(consumer)


def expired_ack_refused():
    name = topic("expired")
    sender, consumer = producer(name), simple_consumer(group("expired"), name)
    identity = sender.send(message(name, b"late")).message_id
    first = receive_one(consumer, identity, lease=SHORT_LEASE)
    # The lease has to run out; nothing but time tells.
    time.sleep(SHORT_LEASE + 0.5)
    assert code_of(lambda: consumer.ack(first)) == INVALID_RECEIPT_HANDLE
    second = receive_one(consumer, identity)
    assert second.delivery_attempt == 2
    assert code_of(lambda: consumer.ack(first)) == INVALID_RECEIPT_HANDLE
    consumer.ack(second)
    assert_nothing_left(consumer)


def empty_receive():
    consumer = simple_consumer(group("empty"), topic("empty"))
    begun = time.monotonic()
    assert consumer.receive(32, 30) == []
    assert time.monotonic() - begun <= 20


def double_ack():
    name = topic("double")
    sender, consumer = producer(name), simple_consumer(group("double"), name)
    got = receive_one(consumer, sender.send(message(name, b"once")).message_id)
    consumer.ack(got)
    consumer.ack(got)


def push_consumes():
    name = topic("push")
    listener = Recorder()
    sender, _consumer = producer(name), push_consumer(group("push"), name, listener)
    sent = {}
    for number in range(20):
        body = bytes([number]) * (number + 1)
        sent[sender.send(message(name, body, properties={"n": str(number)})).message_id] = body
    wait_for("20 messages", lambda: len(listener.seen) >= len(sent), 30)
    # Longer than one assignment scan: a second delivery would have come by then.
    time.sleep(POLL + 1)
    assert len(listener.seen) == len(sent), f"{len(listener.seen)} deliveries"
    assert {m.message_id: m.body for m in listener.seen} == sent
    assert all(m.delivery_attempt == 1 and not m.corrupted for m in listener.seen)


def push_failure_redelivers():
    name = topic("retry")
    listener = Recorder(succeed_from=2)
    sender, _consumer = producer(name), push_consumer(group("retry"), name, listener)
    identity = sender.send(message(name, b"twice")).message_id
    wait_for("second attempt", lambda: len(listener.attempts(identity)) >= 2, SECOND_ATTEMPT)
    time.sleep(POLL)
    assert listener.attempts(identity) == [1, 2], listener.attempts(identity)
    assert {m.body for m in listener.seen} == {b"twice"}


def dead_letter():
    name = topic("doomed")
    doomed = group("doomed", "--max-attempts 2")
    listener = Recorder(succeed_from=99)
    sender, _consumer = producer(name), push_consumer(doomed, name, listener)
    identity = sender.send(message(name, b"\x00dead\xff")).message_id
    wait_for("second attempt", lambda: len(listener.attempts(identity)) >= 2, SECOND_ATTEMPT)
    # The dead-letter topic is there from the first dead message on.
    reader = simple_consumer(group("doomed-reader"), f"%DLQ%{doomed}")
    found = retry(lambda: receive_one(reader, identity), 60)
    assert found.body == b"\x00dead\xff"
    reader.ack(found)
    assert listener.attempts(identity) == [1, 2], listener.attempts(identity)


class RestartFixture:
    """Client objects that live through every restart."""

    def __init__(self):
        self.topic = topic("restart")
        self.listener = Recorder()
        self.producer = producer(self.topic)
        self.simple = simple_consumer(group("restart-simple"), self.topic)
        self.push = push_consumer(group("restart-push"), self.topic, self.listener)

    def send(self, text):
        built = message(self.topic, text.encode())
        return retry(lambda: self.producer.send(built), 30).message_id

    def survives(self, how):
        acked, leased = self.send(f"{how} acked"), self.send(f"{how} leased")
        found = receive_all(self.simple, {acked, leased}, lease=5)
        self.simple.ack(found[acked])
        wait_for("push before", lambda: self.pushed(acked) and self.pushed(leased), 30)
        waiting = self.send(f"{how} waiting")
        driver.request(f"restart {how}")
        after = self.send(f"{how} after")
        arrived = {}
        deadline = time.monotonic() + 60
        while not {leased, waiting, after} <= arrived.keys():
            assert time.monotonic() < deadline, f"after the restart only {len(arrived)} of 3 came"
            for got in retry(lambda: self.simple.receive(32, 30), 30):
                arrived[got.message_id] = got
                self.simple.ack(got)
        assert acked not in arrived, "acked before the restart, delivered after it"
        assert arrived[after].body == f"{how} after".encode()
        wait_for("push after", lambda: self.pushed(waiting) and self.pushed(after), 60)
        assert_nothing_left(self.simple)

    def pushed(self, message_id):
        return self.listener.attempts(message_id)


def log_lines(begin=0, end=None):
    with open(LOG, "rb") as log:
        log.seek(begin)
        data = log.read() if end is None else log.read(end - begin)
    return data.decode(errors="replace").splitlines()


FATAL_WORDS = (
    "receive message e",
    "received message error",
    "[BUG]",
    "check_sum",
    "unsupported message",
    "ack or nack raise exception",
    "assignment response raise exception",
    "send heartbeat to",
)


def faults(lines):
    errors = [line for line in lines if "[ERROR]" in line]
    return [line for line in errors if any(word in line for word in FATAL_WORDS)]


def main():
    driver.run_together(
        [
            send_receive_ack,
            two_topics_one_producer,
            tag_filter,
            nack_redelivers,
            expired_ack_refused,
            empty_receive,
            double_ack,
            push_consumes,
            push_failure_redelivers,
            dead_letter,
            *kinds.ALL,
        ]
    )
    calm = os.path.getsize(LOG)

    shared = []

    def fixture():
        if not shared:
            shared.append(RestartFixture())
        return shared[0]

    def restart_kill():
        fixture().survives("kill")

    def restart_term():
        fixture().survives("term")

    def clean_log():
        found = faults(log_lines(end=calm))
        assert not found, f"{len(found)} lines, first: {found[0]}"

    driver.run(restart_kill)
    driver.run(restart_term)
    driver.run(clean_log)
    driver.finish()


main()
