"""Cases of everything beyond plain messages; what each proves is in ../README.md."""

import threading
import time

import driver
from driver import PREFIX, group, request, retry, wait_for

from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    LitePushConsumer,
    LiteSimpleConsumer,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
    TransactionChecker,
    TransactionResolution,
)
from rocketmq.grpc_protocol import FilterType

POLL = 5
LEASE = 30
PRECONDITION_FAILED = 42800


def typed_topic(name, kind):
    full = PREFIX + name
    request(f"topic {full} {kind}")
    return full


def configuration(namespace=""):
    return ClientConfiguration(driver.ENDPOINT, Credentials("", ""), namespace)


def producer(*topics, checker=None, namespace=""):
    client = Producer(configuration(namespace), topics, checker, tls_enable=driver.TLS)
    client.startup()
    return client


def simple_consumer(group_name, topic_name, expression=None, namespace=""):
    client = SimpleConsumer(
        configuration(namespace),
        group_name,
        {topic_name: expression or FilterExpression("*")},
        await_duration=POLL,
        tls_enable=driver.TLS,
    )
    client.startup()
    return client


def message(topic_name, body, **properties):
    built = Message()
    built.topic = topic_name
    built.body = body.encode()
    for name, value in properties.items():
        setattr(built, name, value)
    return built


def receive_until(consumer, count, seconds=30, most=32):
    """Receives until so many messages came; acks each."""
    came = []
    deadline = time.monotonic() + seconds
    while len(came) < count:
        assert time.monotonic() < deadline, f"{len(came)} of {count} came: {[m.body for m in came]}"
        for got in consumer.receive(most, LEASE):
            came.append(got)
            consumer.ack(got)
    return came


def nothing_comes(consumer):
    left = consumer.receive(32, LEASE)
    assert not left, f"came although it must not: {[m.body for m in left]}"


def code_of(action):
    """The status code an action was refused with, 0 if it was not."""
    try:
        action()
    except Exception as error:
        code = getattr(error, "code", None)
        assert isinstance(code, int), f"refused without a code: {error!r}"
        return code
    return 0


class Order(MessageListener):
    """Keeps the bodies by message group; fails one body once."""

    def __init__(self, fails_once=None):
        self.fails_once = fails_once
        self.by_group = {}
        self._guard = threading.Lock()

    def consume(self, got):
        with self._guard:
            self.by_group.setdefault(got.message_group or got.lite_topic, []).append(got.body.decode())
            if got.body.decode() == self.fails_once:
                self.fails_once = None
                return ConsumeResult.FAILURE
        return ConsumeResult.SUCCESS

    def count(self):
        with self._guard:
            return sum(len(bodies) for bodies in self.by_group.values())


def fifo_order():
    name = typed_topic("fifo", "fifo")
    sender = producer(name)
    groups = [f"g{number}" for number in range(4)]
    for step in range(8):
        for message_group in groups:
            sender.send(message(name, f"{message_group}-{step}", message_group=message_group))
    expected = {g: [f"{g}-{step}" for step in range(8)] for g in groups}

    # A push consumer whose listener fails once in the middle of a group.
    listener = Order(fails_once="g1-3")
    members = group("fifo-push", "--ordered")
    expression = FilterExpression("*")
    driver.start_push(
        lambda: PushConsumer(configuration(), members, listener, {name: expression}, tls_enable=driver.TLS)
    )

    # A simple consumer that gives the head of one group back: it comes first again, its followers behind it.
    consumer = simple_consumer(group("fifo-simple"), name)
    by_group, given_back = {g: [] for g in groups}, False
    deadline = time.monotonic() + 40
    while sum(map(len, by_group.values())) < 32:
        assert time.monotonic() < deadline, {g: len(bodies) for g, bodies in by_group.items()}
        batch = consumer.receive(5, LEASE)
        skipped = set()
        for got in batch:
            body = got.body.decode()
            if got.message_group in skipped:
                continue
            if body == "g2-2" and not given_back:
                given_back = True
                skipped.add("g2")
                consumer.change_invisible_duration(got, 1)
                # Those behind it in this batch are this consumer's to give up as well.
                for other in batch:
                    if other.message_group == "g2" and other.body.decode() > body:
                        consumer.change_invisible_duration(other, 1)
                continue
            by_group[got.message_group].append(body)
            consumer.ack(got)
    assert given_back
    assert by_group == expected, by_group
    nothing_comes(consumer)

    wait_for("all by push", lambda: listener.count() >= 33, 60)
    repeated = list(expected["g1"])
    repeated.insert(3, "g1-3")
    assert listener.by_group == {**expected, "g1": repeated}, listener.by_group


def delayed():
    name = typed_topic("delayed", "delay")
    sender, consumer = producer(name), simple_consumer(group("delayed"), name)
    due = int(time.time()) + 3
    past = sender.send(message(name, "past", delivery_timestamp=int(time.time()) - 60)).message_id
    later = sender.send(message(name, "later", delivery_timestamp=due)).message_id
    came = {}
    deadline = time.monotonic() + 20
    while len(came) < 2:
        assert time.monotonic() < deadline, f"only {came.keys()}"
        for got in consumer.receive(32, LEASE):
            came[got.message_id] = (time.time(), got)
            consumer.ack(got)
    assert came[past][0] < due, "the one of the past was held back"
    at, got = came[later]
    assert at >= due - 0.05, f"{due - at:.3f} s early"
    assert at <= due + 1.5, f"{at - due:.3f} s late"
    assert got.delivery_timestamp == due * 1000, got.delivery_timestamp


def recall():
    name = typed_topic("recall", "delay")
    sender, consumer = producer(name), simple_consumer(group("recall"), name)
    due = int(time.time()) + 3
    gone = sender.send(message(name, "gone", delivery_timestamp=due))
    kept = sender.send(message(name, "kept", delivery_timestamp=due))
    assert gone.recall_handle and kept.recall_handle
    for _ in range(2):
        sender.recall_message(name, gone.recall_handle)
    came = receive_until(consumer, 1)
    assert came[0].message_id == kept.message_id, came[0].body
    assert code_of(lambda: sender.recall_message(name, kept.recall_handle)) == PRECONDITION_FAILED
    nothing_comes(consumer)


class Checker(TransactionChecker):
    def __init__(self):
        self.asked = []

    def check(self, got):
        self.asked.append((got.message_id, got.body))
        return TransactionResolution.COMMIT


def transaction_commit_rollback():
    name = typed_topic("transaction", "transaction")
    checker = Checker()
    sender, consumer = producer(name, checker=checker), simple_consumer(group("transaction"), name)
    sent = {}
    for what in ["committed", "rolled back", "undecided"]:
        transaction = sender.begin_transaction()
        sent[what] = sender.send(message(name, what), transaction).message_id
        if what == "committed":
            transaction.commit()
        elif what == "rolled back":
            transaction.rollback()
    # The undecided one is asked about after its six seconds, and then arrives.
    came = receive_until(consumer, 2, 60)
    assert [m.body for m in came] == [b"committed", b"undecided"], [m.body for m in came]
    assert checker.asked[0] == (sent["undecided"], b"undecided"), checker.asked
    assert {identity for identity, _ in checker.asked} == {sent["undecided"]}
    nothing_comes(consumer)


def sql_filter():
    name = typed_topic("sql", "normal")
    sender = producer(name)
    for number in range(6):
        built = message(name, f"n{number}", tag="A" if number % 2 else "B")
        built.add_property("number", str(number))
        sender.send(built)
    expression = FilterExpression("number BETWEEN 2 AND 4 AND NOT TAGS = 'A'", FilterType.SQL)
    consumer = simple_consumer(group("sql"), name, expression)
    assert sorted(m.body for m in receive_until(consumer, 2)) == [b"n2", b"n4"]
    listener = Order()
    members = group("sql-push")
    driver.start_push(
        lambda: PushConsumer(configuration(), members, listener, {name: expression}, tls_enable=driver.TLS)
    )
    wait_for("two by push", lambda: listener.count() >= 2, 30)
    nothing_comes(consumer)
    assert sorted(body for bodies in listener.by_group.values() for body in bodies) == ["n2", "n4"]


def priority():
    name = typed_topic("priority", "priority")
    sender, consumer = producer(name), simple_consumer(group("priority"), name)
    for level in [1, 9, 5, 0, 7]:
        sender.send(message(name, str(level), priority=level))
    came = receive_until(consumer, 5, most=1)
    assert [m.body for m in came] == [b"9", b"7", b"5", b"1", b"0"], [m.body for m in came]


def lite():
    name = typed_topic("lite", "lite")
    sender = producer(name)
    push_listener = Order()
    members = group("lite-push")
    push = driver.start_push(
        lambda: LitePushConsumer(configuration(), members, name, push_listener, tls_enable=driver.TLS)
    )
    simple = LiteSimpleConsumer(name, configuration(), group("lite-simple"), POLL, tls_enable=driver.TLS)
    simple.startup()
    # This client sends the letters of a name one by one; a name of one letter is what both sides understand.
    for client in [push, simple]:
        for one in ["a", "b"]:
            client.subscribe_lite(one)
    for step in range(4):
        for one in ["a", "b", "c"]:
            sender.send(message(name, f"{one}-{step}", lite_topic=one))
    expected = {one: [f"{one}-{step}" for step in range(4)] for one in ["a", "b"]}
    by_lite = {}
    for got in receive_until(simple, 8):
        by_lite.setdefault(got.lite_topic, []).append(got.body.decode())
    assert by_lite == expected, by_lite
    wait_for("eight by push", lambda: push_listener.count() >= 8, 30)
    assert push_listener.by_group == expected, push_listener.by_group
    simple.unsubscribe_lite("b")
    for one in ["a", "b"]:
        sender.send(message(name, f"{one}-more", lite_topic=one))
    assert [m.body for m in receive_until(simple, 1)] == [b"a-more"]
    nothing_comes(simple)


def redrive():
    name, doomed = typed_topic("redrive", "normal"), group("redrive", "--max-attempts 1")
    sender, consumer = producer(name), simple_consumer(doomed, name)
    identity = sender.send(message(name, "again")).message_id
    first = retry(lambda: consumer.receive(1, LEASE)[0], 20)
    assert first.message_id == identity
    consumer.change_invisible_duration(first, 0)
    # Refused until the message has died and moved.
    retry(lambda: request(f"admin dlq redrive {doomed} --id {identity}"), 20)
    came = receive_until(consumer, 1)
    assert (came[0].message_id, came[0].body, came[0].delivery_attempt) == (identity, b"again", 1)


def namespace():
    name = PREFIX + "spaced"
    for space in ["ns-one", "ns-two"]:
        request(f"admin --namespace {space} topic create {name}")
    group_name = group("spaced")
    senders = {space: producer(name, namespace=space) for space in ["ns-one", "ns-two"]}
    for space, sender in senders.items():
        sender.send(message(name, space))
    for space in senders:
        consumer = simple_consumer(group_name, name, namespace=space)
        came = receive_until(consumer, 1)
        assert [m.body for m in came] == [space.encode()], [m.body for m in came]
        assert came[0].namespace == space, came[0].namespace
        nothing_comes(consumer)


ALL = [
    fifo_order,
    delayed,
    recall,
    transaction_commit_rollback,
    sql_filter,
    priority,
    lite,
    redrive,
    namespace,
]
