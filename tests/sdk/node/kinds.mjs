// Cases of everything beyond plain messages; what each proves is in ../README.md.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { format } from 'node:util';
import { endpoint, group, request, retry, tls, typedTopic, waitFor, within } from './driver.mjs';

const require = createRequire(`${process.env.BOLIDE_CACHE}/`);
const { Producer, SimpleConsumer, PushConsumer, LitePushConsumerBuilder, FilterExpression, ConsumeResult } =
  require('rocketmq-client-nodejs');

// Milliseconds.
const poll = 5000;
const lease = 30000;
// Numbers of the protocol that the client does not export.
const sql = 2;
const commit = 1;
const preconditionFailed = 42800;

const complaint = (...words) => process.stderr.write(`${format(...words)}\n`);
const logger = { debug() {}, info() {}, warn: complaint, error: complaint };
const common = (namespace = '') => ({ endpoints: endpoint, namespace, sslEnabled: tls, logger });

async function started(client) {
  await within('startup', 10, client.startup());
  return client;
}

const producer = (name, more = {}, namespace = '') =>
  started(new Producer({ ...common(namespace), topics: [name], ...more }));

const simpleConsumer = (consumerGroup, name, filter = new FilterExpression('*'), namespace = '') =>
  started(new SimpleConsumer({
    ...common(namespace),
    consumerGroup,
    subscriptions: new Map([[name, filter]]),
    awaitDuration: poll,
  }));

const pushConsumer = (consumerGroup, name, messageListener, filter = new FilterExpression('*')) =>
  started(new PushConsumer({ ...common(), consumerGroup, subscriptions: new Map([[name, filter]]), messageListener }));

const text = view => view.body.toString();

/** Receives until so many messages came; acks each. */
async function receiveUntil(consumer, count, most = 32) {
  const came = [];
  const deadline = Date.now() + 60000;
  while (came.length < count) {
    assert(Date.now() < deadline, `${came.length} of ${count} came: ${came.map(text)}`);
    for (const view of await consumer.receive(most, lease)) {
      came.push(view);
      await consumer.ack(view);
    }
  }
  return came;
}

async function nothingComes(consumer) {
  assert.deepEqual((await consumer.receive(32, lease)).map(text), [], 'came although it must not');
}

/** Keeps the bodies by message group or lite topic; fails one body once. */
class Order {
  byGroup = new Map();
  count = 0;

  constructor(failsOnce) {
    this.failsOnce = failsOnce;
  }

  async consume(view) {
    const key = view.messageGroup || view.liteTopic || '';
    this.byGroup.set(key, [...(this.byGroup.get(key) ?? []), text(view)]);
    this.count++;
    if (text(view) === this.failsOnce) {
      this.failsOnce = undefined;
      return ConsumeResult.FAILURE;
    }
    return ConsumeResult.SUCCESS;
  }

  sorted() {
    return Object.fromEntries([...this.byGroup].sort());
  }
}

async function fifo_order() {
  const name = await typedTopic('fifo', 'fifo');
  const sender = await producer(name);
  const groups = ['g0', 'g1', 'g2', 'g3'];
  for (let step = 0; step < 8; step++) {
    for (const messageGroup of groups) {
      await sender.send({ topic: name, body: Buffer.from(`${messageGroup}-${step}`), messageGroup });
    }
  }
  const expected = Object.fromEntries(groups.map(g => [g, [...Array(8).keys()].map(step => `${g}-${step}`)]));
  const listener = new Order('g1-3');
  await pushConsumer(await group('fifo-push', '--ordered'), name, listener);

  const consumer = await simpleConsumer(await group('fifo-simple'), name);
  const byGroup = Object.fromEntries(groups.map(g => [g, []]));
  let came = 0;
  let givenBack = false;
  const deadline = Date.now() + 40000;
  while (came < 32) {
    assert(Date.now() < deadline, JSON.stringify(byGroup));
    let givingUp = false;
    for (const view of await consumer.receive(5, lease)) {
      const mine = view.messageGroup === 'g2';
      if (mine && text(view) === 'g2-2' && !givenBack) givenBack = givingUp = true;
      if (mine && givingUp) {
        // The head, and those behind it that this batch holds as well.
        await consumer.changeInvisibleDuration(view, 1000);
        continue;
      }
      byGroup[view.messageGroup].push(text(view));
      came++;
      await consumer.ack(view);
    }
  }
  assert(givenBack);
  assert.deepEqual(byGroup, expected);
  await nothingComes(consumer);
  await waitFor('all by push', () => listener.count >= 33, 60);
  expected.g1.splice(3, 0, 'g1-3');
  assert.deepEqual(listener.sorted(), expected);
}

async function delayed() {
  const name = await typedTopic('delayed', 'delay');
  const sender = await producer(name);
  const consumer = await simpleConsumer(await group('delayed'), name);
  const due = Date.now() + 3000;
  const send = (what, at) => sender.send({ topic: name, body: Buffer.from(what), deliveryTimestamp: new Date(at) });
  const past = (await send('past', Date.now() - 60000)).messageId;
  const later = (await send('later', due)).messageId;
  const came = new Map();
  const deadline = Date.now() + 20000;
  while (came.size < 2) {
    assert(Date.now() < deadline, `only ${[...came.keys()]}`);
    for (const view of await consumer.receive(32, lease)) {
      came.set(view.messageId, { at: Date.now(), view });
      await consumer.ack(view);
    }
  }
  assert(came.get(past).at < due, 'the one of the past was held back');
  const { at, view } = came.get(later);
  assert(at >= due - 50, `${due - at} ms early`);
  assert(at <= due + 1500, `${at - due} ms late`);
  assert.equal(view.deliveryTimestamp.getTime(), due);
}

async function recall() {
  const name = await typedTopic('recall', 'delay');
  const sender = await producer(name);
  const consumer = await simpleConsumer(await group('recall'), name);
  const deliveryTimestamp = new Date(Date.now() + 3000);
  const gone = await sender.send({ topic: name, body: Buffer.from('gone'), deliveryTimestamp });
  const kept = await sender.send({ topic: name, body: Buffer.from('kept'), deliveryTimestamp });
  for (let turn = 0; turn < 2; turn++) await sender.recallMessage(name, gone.recallHandle);
  const came = await receiveUntil(consumer, 1);
  assert.deepEqual(came.map(view => view.messageId), [kept.messageId]);
  await assert.rejects(sender.recallMessage(name, kept.recallHandle), error => {
    // This client has no class for the code; its words carry it.
    return error.code === preconditionFailed || format(error).includes(String(preconditionFailed));
  });
  await nothingComes(consumer);
}

async function transaction_commit_rollback() {
  const name = await typedTopic('transaction', 'transaction');
  const asked = [];
  const checker = {
    async check(view) {
      asked.push([view.messageId, text(view)]);
      return commit;
    },
  };
  const sender = await producer(name, { checker });
  const consumer = await simpleConsumer(await group('transaction'), name);
  const sent = {};
  for (const what of ['committed', 'rolled back', 'undecided']) {
    const transaction = sender.beginTransaction();
    sent[what] = (await sender.send({ topic: name, body: Buffer.from(what) }, transaction)).messageId;
    if (what === 'committed') await transaction.commit();
    if (what === 'rolled back') await transaction.rollback();
  }
  const came = await receiveUntil(consumer, 2);
  assert.deepEqual(came.map(text), ['committed', 'undecided']);
  assert.deepEqual(asked[0], [sent.undecided, 'undecided']);
  assert.deepEqual(new Set(asked.map(([id]) => id)), new Set([sent.undecided]));
  await nothingComes(consumer);
}

async function sql_filter() {
  const name = await typedTopic('sql', 'normal');
  const sender = await producer(name);
  for (let number = 0; number < 6; number++) {
    const properties = new Map([['number', String(number)]]);
    await sender.send({ topic: name, body: Buffer.from(`n${number}`), tag: number % 2 ? 'A' : 'B', properties });
  }
  const filter = new FilterExpression("number BETWEEN 2 AND 4 AND NOT TAGS = 'A'", sql);
  const consumer = await simpleConsumer(await group('sql'), name, filter);
  assert.deepEqual((await receiveUntil(consumer, 2)).map(text).sort(), ['n2', 'n4']);
  const listener = new Order();
  await pushConsumer(await group('sql-push'), name, listener, filter);
  await waitFor('two by push', () => listener.count >= 2, 30);
  await nothingComes(consumer);
  assert.deepEqual([...listener.byGroup.values()].flat().sort(), ['n2', 'n4']);
}

async function priority() {
  const name = await typedTopic('priority', 'priority');
  const sender = await producer(name);
  const consumer = await simpleConsumer(await group('priority'), name);
  // To this client a priority of 0 is none.
  for (const level of [1, 9, 5, 3, 7]) {
    await sender.send({ topic: name, body: Buffer.from(String(level)), priority: level });
  }
  assert.deepEqual((await receiveUntil(consumer, 5, 1)).map(text), ['9', '7', '5', '3', '1']);
}

async function lite() {
  const name = await typedTopic('lite', 'lite');
  const sender = await producer(name);
  const listener = new Order();
  const consumer = await new LitePushConsumerBuilder()
    .setClientConfiguration(common())
    .setConsumerGroup(await group('lite-push'))
    .bindTopic(name)
    .setMessageListener(listener)
    .build();
  for (const one of ['alpha', 'beta']) await consumer.subscribeLite(one);
  const send = (one, step) => sender.send({ topic: name, body: Buffer.from(`${one}-${step}`), liteTopic: one });
  for (let step = 0; step < 4; step++) {
    for (const one of ['alpha', 'beta', 'gamma']) await send(one, step);
  }
  await waitFor('eight by push', () => listener.count >= 8, 30);
  const expected = one => [...Array(4).keys()].map(step => `${one}-${step}`);
  assert.deepEqual(listener.sorted(), { alpha: expected('alpha'), beta: expected('beta') });
  await consumer.unsubscribeLite('beta');
  for (const one of ['beta', 'alpha']) await send(one, 'more');
  await waitFor('one more', () => listener.count >= 9, 30);
  assert.equal(listener.byGroup.get('alpha').at(-1), 'alpha-more');
  assert.deepEqual(listener.byGroup.get('beta'), expected('beta'));
  await consumer.close();
}

async function redrive() {
  const name = await typedTopic('redrive', 'normal');
  const doomed = await group('redrive', '--max-attempts 1');
  const sender = await producer(name);
  const consumer = await simpleConsumer(doomed, name);
  const id = (await sender.send({ topic: name, body: Buffer.from('again') })).messageId;
  const [first] = await retry(async () => {
    const batch = await consumer.receive(1, lease);
    assert.equal(batch.length, 1);
    return batch;
  }, 20);
  await consumer.changeInvisibleDuration(first, 0);
  // Refused until the message has died and moved.
  await retry(() => request(`admin dlq redrive ${doomed} --id ${id}`), 20);
  const [came] = await receiveUntil(consumer, 1);
  assert.deepEqual([came.messageId, text(came), came.deliveryAttempt], [id, 'again', 1]);
}

async function namespace() {
  const name = await typedTopic('spaced', 'normal');
  const spaces = ['ns-one', 'ns-two'];
  for (const space of spaces) await request(`admin --namespace ${space} topic create ${name}`);
  for (const space of spaces) {
    const sender = await producer(name, {}, space);
    await sender.send({ topic: name, body: Buffer.from(space) });
  }
  const groupName = await group('spaced');
  for (const space of spaces) {
    const consumer = await simpleConsumer(groupName, name, undefined, space);
    assert.deepEqual((await receiveUntil(consumer, 1)).map(text), [space]);
    await nothingComes(consumer);
  }
}

export const kinds =
  [fifo_order, delayed, recall, transaction_commit_rollback, sql_filter, priority, lite, redrive, namespace];
