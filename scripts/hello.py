"""Sends ten messages and receives them again, with the official Python client. Argument: the broker's public address."""

import sys
import time
import uuid

from rocketmq import ClientConfiguration, Credentials, FilterExpression, Message, Producer, SimpleConsumer

TOPIC = "hello"
GROUP = "hello"
MESSAGES = 10
PATIENCE_SECONDS = 60
LEASE_SECONDS = 30
POLL_SECONDS = 5


def main():
    endpoint = sys.argv[1]
    # The topic may hold messages of earlier runs; only this run's are counted.
    run = uuid.uuid4().hex[:8]
    configuration = ClientConfiguration(endpoint, Credentials("", ""))

    consumer = SimpleConsumer(
        configuration,
        GROUP,
        {TOPIC: FilterExpression("*")},
        await_duration=POLL_SECONDS,
        tls_enable=False,
    )
    producer = Producer(configuration, (TOPIC,), tls_enable=False)
    consumer.startup()
    producer.startup()
    try:
        expected = {}
        for number in range(1, MESSAGES + 1):
            message = Message()
            message.topic = TOPIC
            message.tag = "greeting"
            message.keys = f"{run}-{number}"
            message.body = f"hello {number} of {MESSAGES} ({run})".encode()
            receipt = producer.send(message)
            expected[receipt.message_id] = message.body
            print(f"sent      {message.body.decode()}  as {receipt.message_id}", flush=True)

        deadline = time.monotonic() + PATIENCE_SECONDS
        while expected and time.monotonic() < deadline:
            for message in consumer.receive(32, LEASE_SECONDS):
                consumer.ack(message)
                body = expected.pop(message.message_id, None)
                if body is None:
                    print(f"received  a message of an earlier run: {message.message_id}", flush=True)
                elif body != message.body:
                    sys.exit(f"hello: {message.message_id} came back changed: {message.body!r}")
                else:
                    print(f"received  {message.body.decode()}", flush=True)
        if expected:
            sys.exit(f"hello: not received within {PATIENCE_SECONDS} s: {sorted(expected)}")
    finally:
        producer.shutdown()
        consumer.shutdown()
    print(f"\n{MESSAGES} messages sent, received and acknowledged. Next: bolide admin topic show hello; bolide admin group lag hello")


if __name__ == "__main__":
    main()
