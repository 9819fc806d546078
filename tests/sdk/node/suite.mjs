// Cases of the official Node client; what each proves is in ../README.md.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { format } from 'node:util';
import { endpoint, finish, group, request, retry, run, sleep, tls, topic, waitFor, within } from './driver.mjs';
import { kinds } from './kinds.mjs';

// The client is installed in the cache, out of reach of the ordinary module search.
const require = createRequire(`${process.env.BOLIDE_CACHE}/`);
const { Producer, SimpleConsumer, PushConsumer, FilterExpression, ConsumeResult } =
  require('rocketmq-client-nodejs');

const invalidReceiptHandle = 40013;
// Milliseconds. The server's shortest poll, and the shortest lease it was configured to allow.
const poll = 5000;
const shortLease = 1000;
const longLease = 30000;
// Seconds. The back-off before a push consumer's second attempt is 1 s to 10 s; the rest is patience.
const secondAttempt = 40;

const complaint = (...words) => process.stderr.write(`${format(...words)}\n`);
const logger = { debug() {}, info() {}, warn: complaint, error: complaint };
const common = () => ({ endpoints: endpoint, namespace: '', sslEnabled: tls, logger });

async function started(client) {
  await within('startup', 10, client.startup());
  return client;
}

const producer = (...topics) => started(new Producer({ ...common(), topics }));

const simpleConsumer = (consumerGroup, name, expression = '*') =>
  started(new SimpleConsumer({
    ...common(),
    consumerGroup,
    subscriptions: new Map([[name, new FilterExpression(expression)]]),
    awaitDuration: poll,
  }));

const pushConsumer = (consumerGroup, name, messageListener) =>
  started(new PushConsumer({
    ...common(),
    consumerGroup,
    subscriptions: new Map([[name, '*']]),
    messageListener,
  }));

/** Keeps what it was given; fails the attempts below `succeedFrom`. */
class Recorder {
  seen = [];

  constructor(succeedFrom = 1) {
    this.succeedFrom = succeedFrom;
  }

  async consume(view) {
    this.seen.push({ id: view.messageId, attempt: view.deliveryAttempt, view });
    return view.deliveryAttempt >= this.succeedFrom ? ConsumeResult.SUCCESS : ConsumeResult.FAILURE;
  }

  attempts(id) {
    return this.seen.filter(entry => entry.id === id).map(entry => entry.attempt);
  }
}

/** Receives until all wanted message ids have been seen; returns the views by id. Acks nothing. */
async function receiveAll(consumer, wanted, lease = longLease, seconds = 30) {
  const found = new Map();
  const deadline = Date.now() + seconds * 1000;
  const missing = () => wanted.filter(id => !found.has(id));
  while (missing().length > 0) {
    assert(Date.now() < deadline, `not received within ${seconds} s: ${missing()}`);
    for (const view of await consumer.receive(32, lease)) {
      assert(!found.has(view.messageId), `twice: ${view.messageId}`);
      found.set(view.messageId, view);
    }
  }
  return found;
}

async function receiveOne(consumer, id, lease = longLease) {
  const found = await receiveAll(consumer, [id], lease);
  assert.deepEqual([...found.keys()], [id]);
  return found.get(id);
}

async function assertNothingLeft(consumer) {
  const left = await consumer.receive(32, longLease);
  assert.deepEqual(left.map(view => view.messageId), [], 'delivered again');
}

/** The status code an action was refused with, 0 if it was not. */
async function codeOf(action) {
  try {
    await action;
  } catch (error) {
    assert(Number.isInteger(error.code), `refused without a code: ${error}`);
    return error.code;
  }
  return 0;
}

/** The same bytes in every run, and no pattern that a lost or doubled block could hide in. */
function pseudoRandom(length) {
  const blocks = [];
  for (let block = 0; block * 64 < length; block++) {
    blocks.push(createHash('sha512').update(String(block)).digest());
  }
  return Buffer.concat(blocks).subarray(0, length);
}

async function send_receive_ack() {
  const name = await topic('plain');
  const sender = await producer(name);
  const consumer = await simpleConsumer(await group('plain'), name);
  const bodies = [Buffer.from([0]), Buffer.from([...Array(256).keys()]), pseudoRandom(1 << 20)];
  const sent = new Map();
  for (const [number, body] of bodies.entries()) {
    const keys = [`key-${number}`, `other-${number}`];
    const properties = new Map([['number', String(number)], ['text', 'Grüße, 世界']]);
    const receipt = await sender.send({ topic: name, body, tag: 'tag-1', keys, properties });
    sent.set(receipt.messageId, { body, keys, properties });
  }
  const found = await receiveAll(consumer, [...sent.keys()], shortLease * 5);
  assert.equal(found.size, sent.size);
  for (const [id, { body, keys, properties }] of sent) {
    const got = found.get(id);
    assert(got.body.equals(body), `body of ${body.length} bytes differs`);
    assert(!got.corrupted);
    assert.deepEqual([got.topic, got.tag, got.keys], [name, 'tag-1', keys]);
    assert.deepEqual(got.properties, properties);
    assert.equal(got.deliveryAttempt, 1);
    await consumer.ack(got);
  }
  // One poll is as long as the lease was: a lost ack would show.
  await assertNothingLeft(consumer);
  await sender.shutdown();
  await consumer.shutdown();
}

async function two_topics_one_producer() {
  const names = [await topic('two-a'), await topic('two-b')];
  // The more topics, the surer the answer to the client's settings comes before the last route, when
  // the client is not waiting for it yet: a server that answers only once would leave it hanging.
  const others = await Promise.all(['two-c', 'two-d', 'two-e', 'two-f'].map(topic));
  const sender = await producer(...names, ...others);
  for (const name of names) {
    const { messageId } = await sender.send({ topic: name, body: Buffer.from(name) });
    const consumer = await simpleConsumer(await group(`two-${name.at(-1)}`), name);
    const got = await receiveOne(consumer, messageId);
    assert.deepEqual([got.topic, got.body.toString()], [name, name]);
    await consumer.ack(got);
    await consumer.shutdown();
  }
  await sender.shutdown();
}

async function tag_filter() {
  const name = await topic('tags');
  const sender = await producer(name);
  const some = await simpleConsumer(await group('tags-some'), name, 'A || B');
  const everything = await simpleConsumer(await group('tags-all'), name, '*');
  const ids = new Map();
  for (const tag of ['A', 'B', 'C', 'AB', '']) {
    const options = tag ? { tag } : {};
    const receipt = await sender.send({ topic: name, body: Buffer.from(`body ${tag}`), ...options });
    ids.set(tag, receipt.messageId);
  }
  const all = await receiveAll(everything, [...ids.values()]);
  for (const [tag, id] of ids) assert.equal(all.get(id).tag ?? '', tag);
  const wanted = [ids.get('A'), ids.get('B')];
  const found = await receiveAll(some, wanted);
  assert.deepEqual(new Set(found.keys()), new Set(wanted));
  for (const got of found.values()) await some.ack(got);
  await assertNothingLeft(some);
}

async function nack_redelivers() {
  const name = await topic('nack');
  const sender = await producer(name);
  const consumer = await simpleConsumer(await group('nack'), name);
  const { messageId } = await sender.send({ topic: name, body: Buffer.from('again') });
  const first = await receiveOne(consumer, messageId);
  assert.equal(first.deliveryAttempt, 1);
  const begun = Date.now();
  await consumer.changeInvisibleDuration(first, 1000);
  const second = await receiveOne(consumer, messageId);
  assert(Date.now() - begun < 10000, 'the long first lease was kept');
  assert.deepEqual([second.deliveryAttempt, second.body.toString()], [2, 'again']);
  await consumer.ack(second);
  await assertNothingLeft(consumer);
}

async function expired_ack_refused() {
  const name = await topic('expired');
  const sender = await producer(name);
  const consumer = await simpleConsumer(await group('expired'), name);
  const { messageId } = await sender.send({ topic: name, body: Buffer.from('late') });
  const first = await receiveOne(consumer, messageId, shortLease);
  // The lease has to run out; nothing but time tells.
  await sleep(shortLease + 500);
  assert.equal(await codeOf(consumer.ack(first)), invalidReceiptHandle);
  const second = await receiveOne(consumer, messageId);
  assert.equal(second.deliveryAttempt, 2);
  assert.equal(await codeOf(consumer.ack(first)), invalidReceiptHandle);
  await consumer.ack(second);
  await assertNothingLeft(consumer);
}

async function empty_receive() {
  const consumer = await simpleConsumer(await group('empty'), await topic('empty'));
  assert.deepEqual(await within('empty receive', 20, consumer.receive(32, longLease)), []);
}

async function double_ack() {
  const name = await topic('double');
  const sender = await producer(name);
  const consumer = await simpleConsumer(await group('double'), name);
  const { messageId } = await sender.send({ topic: name, body: Buffer.from('once') });
  const got = await receiveOne(consumer, messageId);
  await consumer.ack(got);
  await consumer.ack(got);
}

async function push_consumes() {
  const name = await topic('push');
  const listener = new Recorder();
  const sender = await producer(name);
  await pushConsumer(await group('push'), name, listener);
  const sent = new Map();
  for (let number = 0; number < 20; number++) {
    const body = Buffer.alloc(number + 1, number);
    const properties = new Map([['n', String(number)]]);
    sent.set((await sender.send({ topic: name, body, properties })).messageId, body);
  }
  await waitFor('20 messages', () => listener.seen.length >= sent.size, 30);
  // Longer than one assignment scan: a second delivery would have come by then.
  await sleep(poll + 1000);
  assert.equal(listener.seen.length, sent.size);
  for (const { id, attempt, view } of listener.seen) {
    assert(sent.has(id) && view.body.equals(sent.get(id)) && !view.corrupted);
    assert.equal(attempt, 1);
    sent.delete(id);
  }
  assert.equal(sent.size, 0);
}

async function push_failure_redelivers() {
  const name = await topic('retry');
  const listener = new Recorder(2);
  const sender = await producer(name);
  await pushConsumer(await group('retry'), name, listener);
  const { messageId } = await sender.send({ topic: name, body: Buffer.from('twice') });
  await waitFor('second attempt', () => listener.attempts(messageId).length >= 2, secondAttempt);
  await sleep(poll);
  assert.deepEqual(listener.attempts(messageId), [1, 2]);
  assert(listener.seen.every(({ view }) => view.body.toString() === 'twice'));
}

async function dead_letter() {
  const name = await topic('doomed');
  const doomed = await group('doomed', '--max-attempts 2');
  const listener = new Recorder(99);
  const sender = await producer(name);
  await pushConsumer(doomed, name, listener);
  const body = Buffer.from('\x00dead\xff', 'latin1');
  const { messageId } = await sender.send({ topic: name, body });
  await waitFor('second attempt', () => listener.attempts(messageId).length >= 2, secondAttempt);
  // The dead-letter topic is there from the first dead message on.
  const readers = await group('doomed-reader');
  const reader = await retry(() => simpleConsumer(readers, `%DLQ%${doomed}`), 60);
  const got = await receiveOne(reader, messageId);
  assert(got.body.equals(body));
  await reader.ack(got);
  assert.deepEqual(listener.attempts(messageId), [1, 2]);
}

/** Client objects that live through every restart. */
async function restartFixture() {
  const name = await topic('restart');
  const listener = new Recorder();
  const sender = await producer(name);
  const simple = await simpleConsumer(await group('restart-simple'), name);
  await pushConsumer(await group('restart-push'), name, listener);
  return { name, listener, sender, simple };
}

async function survives({ name, listener, sender, simple }, how) {
  const send = async text =>
    (await retry(() => sender.send({ topic: name, body: Buffer.from(`${how} ${text}`) }), 30)).messageId;
  const pushed = id => listener.attempts(id).length > 0;
  const acked = await send('acked');
  const leased = await send('leased');
  const found = await receiveAll(simple, [acked, leased], 5000);
  await simple.ack(found.get(acked));
  await waitFor('push before', () => pushed(acked) && pushed(leased), 30);
  const waiting = await send('waiting');
  await request(`restart ${how}`);
  const after = await send('after');
  const arrived = new Map();
  const deadline = Date.now() + 60000;
  while (![leased, waiting, after].every(id => arrived.has(id))) {
    assert(Date.now() < deadline, `after the restart only ${arrived.size} of 3 came`);
    for (const view of await retry(() => simple.receive(32, longLease), 30)) {
      arrived.set(view.messageId, view);
      await simple.ack(view);
    }
  }
  assert(!arrived.has(acked), 'acked before the restart, delivered after it');
  assert.equal(arrived.get(after).body.toString(), `${how} after`);
  await waitFor('push after', () => pushed(waiting) && pushed(after), 60);
  await assertNothingLeft(simple);
}

await Promise.all([
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
  ...kinds,
].map(run));

let fixture;
const shared = () => (fixture ??= restartFixture());

await run(async function restart_kill() {
  await survives(await shared(), 'kill');
});
await run(async function restart_term() {
  await survives(await shared(), 'term');
});
finish();
