// More calls than the pool has room for, among them one that it refuses and some that are aborted:
// each promise settles, whatever happens to the others.
import { Pool, PoolError, TaskError, number, worker } from './aiopool.mjs';

const pool = new Pool(worker(), { processes: 2, childConcurrency: 64 });
// How a promise ends; without this a rejection that comes early would be one that nothing handles.
const end = (promise) => promise.then((value) => ({ value }), (error) => ({ error }));
const tooLarge = () => end(pool.apply('square', Buffer.alloc(65 << 20)));
const refusedAtOnce = tooLarge();
const controller = new AbortController();
const tasks = Array.from({ length: 4200 }, (_, i) => pool.apply('slow_double', number(i)));
const refusedInTheQueue = tooLarge();
const aborted = [0, 1].map((i) => end(pool.apply('slow_double', number(i), { signal: controller.signal })));
controller.abort(new Error('no longer wanted'));
const last = pool.apply('square', number(3));
// What a call was given is the caller's again when it returns, also where the call waits for room.
const reused = number(5);
const early = pool.apply('square', reused);
reused.fill(0xff);
// Its length is in bytes, whatever it is an array of.
const wide = pool.apply('square', BigUint64Array.of(7n));
for (const input of ['text', [1, 2], 8, null, undefined, { length: 8 }]) {
  const { error } = await end(pool.apply('square', input));
  if (!(error instanceof TypeError) || !error.message.includes('Buffer')) throw new Error(`not refused: ${error}`);
}

for (const refused of [refusedAtOnce, refusedInTheQueue]) {
  const { error } = await refused;
  if (!(error instanceof PoolError)) throw new Error(`not refused: ${error}`);
  // What it names as the remedy is one.
  const [, option] = error.message.match(/raise (\w+)/);
  const larger = new Pool(worker(), { processes: 1, [option]: 65 << 20 });
  const { error: taken } = await end(larger.apply('square', Buffer.alloc(65 << 20)));
  if (!(taken instanceof TaskError)) throw new Error(`refused with ${option}: ${taken}`);
  await larger.close();
}
for (const promise of aborted) {
  const { error } = await promise;
  if (error?.message !== 'no longer wanted') throw new Error(`not aborted: ${error}`);
}
const values = await Promise.all(tasks);
if (values.some((value, i) => value.readBigUInt64LE() !== 2n * BigInt(i))) throw new Error('wrong value');
if ((await last).readBigUInt64LE() !== 9n) throw new Error('wrong square');
if ((await early).readBigUInt64LE() !== 25n) throw new Error('the input changed after its call');
if ((await wide).readBigUInt64LE() !== 49n) throw new Error('wrong square of a wide array');
// A running task that is aborted ends, too, and its worker goes on.
const running = new AbortController();
const task = pool.apply('slow_double', number(1), { signal: running.signal });
setTimeout(() => running.abort(), 2);
await task.catch((error) => {
  if (error.name !== 'AbortError') throw error;
});
await pool.close();
const closed = await pool.apply('square', number(3)).catch((error) => error);
if (!(closed instanceof PoolError)) throw new Error('a closed pool took a call');
// A number that is not possible is named as the option is.
for (const [option, value] of Object.entries({ maxTasksPerChild: -1, inputArena: 1, graceMs: NaN, priorities: 9 })) {
  try {
    new Pool(worker(), { [option]: value });
  } catch (error) {
    if (error.message.includes(option)) continue;
    throw error;
  }
  throw new Error(`${option} was taken`);
}
const silent = new Pool(['/bin/sleep', '60'], { processes: 1, startTimeoutMs: 200 });
const { error: late } = await end(silent.apply('square', number(3)));
if (!late?.message.includes('sleep') || !late.message.includes('startTimeoutMs')) throw new Error(`started: ${late}`);
console.log(`${values.length} done, 2 refused, 2 aborted`);
// The process ends while that pool, which is open, has something to say: Node must not hear it any more.
const until = performance.now() + 500;
while (performance.now() < until) continue;
