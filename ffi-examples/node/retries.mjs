// Tries again what is to be tried again, as often and after such pauses as its options say, and tells
// what ended each task.
import {
  CAUSE_TASK, CAUSE_UNKNOWN, FAILED, Pool, PoolError, TaskError, TIMED_OUT, WORKER_LOST, number, worker,
} from './aiopool.mjs';

const expect = (that, what, error) => {
  if (!that) throw new Error(what, { cause: error });
};
const pool = new Pool(worker(), {
  processes: 1, childConcurrency: 2, graceMs: 50, queues: 1, scheduler: 'least-loaded', observable: false,
});
const ended = async (name, x, options) => {
  const error = await pool.apply(name, number(x), options).catch((error) => error);
  if (!(error instanceof TaskError)) throw new Error(`${name}: ${error}`);
  return error;
};

let error = await ended('spin', 0, { timeoutMs: 20, retries: 1, retryOnTimeout: true, jitter: true });
expect(error.status === TIMED_OUT && error.attempts === 2, 'a time-out is tried again', error);
error = await ended('spin', 0, { timeoutMs: 20, retries: 1 });
expect(error.attempts === 1, 'and only where that is asked for', error);
// Doubled without a bound, the pauses would take a day.
error = await ended('fail', 7, { retries: 26, retryOnError: true, backoffMs: 1, longestBackoffMs: 2 });
expect(error.attempts === 27 && error.cause === CAUSE_TASK, 'all attempts were made', error);
error = await ended('no_such_function', 0, {});
expect(error.status === FAILED && error.cause === CAUSE_UNKNOWN, 'nobody has it', error);

// What wants the worker for itself waits until that has nothing else.
const beside = pool.submit('never_done', number(0));
const lost = beside.output.catch((error) => error);
while (beside.progress() !== 42n) await new Promise((resolve) => { setTimeout(resolve, 1); });
error = await ended('square', 3, { alone: true, waitLimitMs: 50 });
expect(error.status === TIMED_OUT, 'it is not alone', error);
// A death of a worker is told from the task that caused it.
error = await ended('fragile', 7, {});
expect(error.status === WORKER_LOST && !error.bystander, 'the one that crashed', error);
error = await lost;
expect(error.status === WORKER_LOST && error.bystander, 'the one beside it', error);

for (const [options, type] of [[{ longestBackoffMs: -1 }, RangeError], [{ queue: 1 }, PoolError]]) {
  const [name] = Object.keys(options);
  const refused = await pool.apply('square', number(3), options).catch((error) => error);
  expect(refused instanceof type && refused.message.includes(name), `taken: ${name}`, refused);
}
await pool.apply('square', number(3), { queue: 0 });
await pool.close();

// A pool that ends at a time that was moved once.
const last = new Pool(worker(), { processes: 1, probation: 1, deadlineMs: 3_600_000 });
const task = last.apply('never_done', number(0)).catch((error) => error);
last.extendDeadline(50);
expect(await task instanceof Error, 'its time did not come');
for (const options of [{ deadlineMs: -1 }, { scheduler: 'chance' }]) {
  let refused;
  try {
    new Pool(worker(), options);
  } catch (error) {
    refused = error;
  }
  expect(refused instanceof RangeError, `taken: ${Object.keys(options)}`, refused);
}
console.log('retries: 2 and 27 attempts, a bystander, and an end at its time');
