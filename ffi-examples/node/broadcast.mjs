// What every worker does: the program says that it is ready when all are up, gives each of them a new
// key, and asks each how much it has done.
import { Pool, PoolError, TaskError, TIMED_OUT, number, worker } from './aiopool.mjs';

const KEY = 0xabcd;
const expect = (that, what) => {
  if (!that) throw new Error(what);
};
const pool = new Pool(worker(), { processes: 3 });
// Calls that wait for it together, and one that gives up.
const waits = Array.from({ length: 10 }, () => pool.ready());
const impatient = pool.ready({ signal: AbortSignal.abort(new Error('no time')) }).catch((error) => error);
await Promise.all(waits);
expect((await impatient).message === 'no time', 'it did not give up');

const each = async (name, input) => {
  const all = await pool.broadcast(name, input);
  expect(all.length === 3, `${all.length} workers`);
  return all.map(({ value, reason }) => {
    if (reason) throw reason;
    return value.readBigUInt64LE();
  });
};
expect((await each('change_key', number(KEY))).every((old) => old === 0n), 'a worker had a key');
const sealed = await Promise.all(Array.from({ length: 100 }, (_, i) => pool.apply('seal', number(i))));
expect(sealed.every((value, i) => value.readBigUInt64LE() === BigInt(i ^ KEY)), 'another key');
const sum = (await each('how_many', number(0))).reduce((sum, count) => sum + count);

// Each worker has an end of its own.
const failed = await pool.broadcast('fail', number(7));
expect(failed.length === 3 && failed.every(({ reason }) => reason instanceof TaskError && reason.code === 7), 'failed');
const late = await pool.broadcast('never_done', number(0), { timeoutMs: 20 });
expect(late.length === 3 && late.every(({ reason }) => reason?.status === TIMED_OUT), 'they took their time');
const useless = await pool.broadcast('seal', number(0), { retries: 1 }).catch((error) => error);
expect(useless instanceof TypeError && useless.message.includes('retries'), 'taken');
// The caller need not wait for it.
const signal = AbortSignal.timeout(20);
const givenUp = await pool.broadcast('never_done', number(0), { signal, timeoutMs: 1000 }).catch((error) => error);
expect(givenUp === signal.reason, 'not given up');
await pool.apply('square', number(3));
// What was given up ends by itself, and a pool is closed when nothing is left.
let closed;
while ((closed = await pool.close().catch((error) => error)) !== undefined) {
  expect(closed.message === 'await the tasks first', closed);
  await new Promise((resolve) => { setTimeout(resolve, 10); });
}
for (const call of [() => pool.broadcast('seal', number(0)), () => pool.ready()]) {
  expect(await call().catch((error) => error) instanceof PoolError, 'a closed pool took a call');
}
let cause;
try {
  const broken = new Pool(['/bin/sh', '-c', 'exit 3'], { processes: 1 });
  cause = await broken.ready().catch((error) => error);
} catch (error) {
  cause = error;
}
expect(cause?.message.includes('/bin/sh'), `no cause: ${cause}`);
console.log(`broadcast: 3 workers have the key, and did ${sum} tasks`);
