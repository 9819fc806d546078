// The suite's side of the contract in ../README.md: requests to the driver, results of cases.

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export const endpoint = process.env.BOLIDE_ENDPOINT;
export const tls = process.env.BOLIDE_TLS === '1';
export { sleep };

const prefix = process.env.BOLIDE_TOPIC_PREFIX;
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const failed = [];
let turn = Promise.resolve();

export function say(line) {
  process.stdout.write(`${line.replaceAll('\n', ' | ')}\n`);
}

/** Asks the driver for something and waits until it is done; one request at a time. */
export function request(words) {
  const answered = turn.then(async () => {
    say(`REQUEST ${words}`);
    const { value } = await answers.next();
    if (value !== 'DONE') throw new Error(`${words}: ${value ?? 'no answer'}`);
  });
  turn = answered.catch(() => {});
  return answered;
}

/** Creates a topic and returns its full name. */
export const topic = name => typedTopic(name, 'normal');

/** Creates a topic of some type and returns its full name. */
export async function typedTopic(name, type) {
  await request(`topic ${prefix}${name} ${type}`);
  return `${prefix}${name}`;
}

/** The full name of a group; created only when it needs options. */
export async function group(name, options) {
  if (options) await request(`group ${prefix}${name} ${options}`);
  return `${prefix}${name}`;
}

/** Runs one case function and reports it under its name. */
export async function run(test) {
  const begun = Date.now();
  try {
    await test();
    say(`CASE ${test.name} OK`);
  } catch (error) {
    failed.push(test.name);
    process.stderr.write(`${error.stack}\n${error.cause ? `cause: ${error.cause}\n` : ''}`);
    say(`CASE ${test.name} FAIL ${error}`);
  }
  say(`${test.name} took ${((Date.now() - begun) / 1000).toFixed(1)} s`);
}

/** Ends the process; the client's timers would keep it alive. */
export function finish() {
  say(`failed: ${failed.join(', ') || 'none'}`);
  process.exit(failed.length === 0 ? 0 : 1);
}

/** Waits until `condition()` is true. */
export async function waitFor(what, condition, seconds) {
  const deadline = Date.now() + seconds * 1000;
  while (!condition()) {
    if (Date.now() >= deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await sleep(20);
  }
}

/** Repeats an action that may fail for a while, as after a restart, until it succeeds. */
export async function retry(action, seconds) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (Date.now() >= deadline) throw error;
      say(`trying again after ${error}`);
      await sleep(200);
    }
  }
}

/** Fails unless the promise settles in time: this client can wait for ever. */
export async function within(what, seconds, promise) {
  const late = sleep(seconds * 1000, undefined, { ref: false }).then(() => {
    throw new Error(`not within ${seconds} s: ${what}`);
  });
  return Promise.race([promise, late]);
}
