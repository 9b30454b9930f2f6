// A task function that crashes takes its worker down, and nothing else.
import { Pool, PoolError, TaskError, WORKER_LOST, number, worker } from './aiopool.mjs';

const COUNT = 100;
const pool = new Pool(worker(), { processes: 2, childConcurrency: 1 });
const ends = await Promise.allSettled(
  Array.from({ length: COUNT }, (_, i) => pool.apply('fragile', number(i))),
);
await pool.close();
let ok = 0;
let lost = 0;
ends.forEach((end, i) => {
  if (end.status === 'fulfilled') ok++;
  else if (end.reason.status === WORKER_LOST && i % 20 === 7) lost++;
  else throw end.reason;
});

// What a function returned and how often it was tried is told; what never obeys is killed.
const one = new Pool(worker(), { processes: 1, priorities: 2 });
const { reason } = (await Promise.allSettled(
  [one.apply('fail', number(7), { retries: 2, retryOnError: true, backoffMs: 0.5, priority: 1 })],
))[0];
if (!(reason instanceof TaskError) || reason.code !== 7 || reason.attempts !== 3) throw reason;
const controller = new AbortController();
const spinning = one.submit('spin', number(0), { signal: controller.signal, killAfterMs: 20 });
while (spinning.progress() !== 1n) await new Promise((resolve) => { setTimeout(resolve, 1); });
// The only worker computes: this one waits for it for too long.
const late = await one.apply('square', number(3), { waitLimitMs: 20 }).catch((error) => error);
if (!(late instanceof TaskError)) throw new Error(`did not wait: ${late}`);
controller.abort(new Error('no longer wanted'));
const aborted = await spinning.output.catch((error) => error);
if (aborted.message !== 'no longer wanted') throw aborted;
const square = await one.apply('square', number(3));
if (square.readBigUInt64LE() !== 9n) throw new Error('the worker was not replaced');
for (const [options, type] of [
  [{ priority: 2 }, PoolError], [{ retrys: 1 }, TypeError], [{ timeoutMs: -1 }, RangeError],
]) {
  const error = await one.apply('square', number(3), options).catch((error) => error);
  if (!(error instanceof type)) throw new Error(`taken: ${Object.keys(options)}: ${error}`);
}
await one.close();
console.log(`crash: ${ok} done, ${lost} lost with their workers, each replaced`);
