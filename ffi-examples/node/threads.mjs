// Pools in threads of their own (worker_threads): each has its own event loop, its own pool and its own
// errors, and one that ends takes a pool with it that it has not closed.
import { once } from 'node:events';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Pool, PoolError, number, shutdown, worker } from './aiopool.mjs';

const COUNT = 300;

async function squares(pool) {
  const values = await Promise.all(Array.from({ length: COUNT }, (_, i) => pool.apply('square', number(i))));
  return values.reduce((sum, value) => sum + value.readBigUInt64LE(), 0n);
}

if (isMainThread) {
  const start = (workerData) => {
    const thread = new Worker(new URL(import.meta.url), { workerData });
    return { said: once(thread, 'message'), ended: once(thread, 'exit') };
  };
  const pool = new Pool(worker(), { processes: 1 });
  const threads = ['closes', 'closes', 'leaves', 'exits'].map(start);
  const sums = await Promise.all([squares(pool), ...threads.map(async ({ said }) => (await said)[0])]);
  await Promise.all(threads.map(({ ended }) => ended));
  const after = await squares(pool);
  await pool.close();
  if (new Set([...sums, after]).size !== 1) throw new Error(`different sums: ${sums} ${after}`);
  // There is no pool any more, or this were refused.
  shutdown();
  console.log(`threads: ${sums.length} with a pool of their own, sum ${sums[0]}`);
} else {
  const pool = new Pool(worker(), { processes: 1 });
  const sum = await squares(pool);
  // The text of an error is its thread's.
  const error = await pool.apply('square', Buffer.alloc(65 << 20)).catch((error) => error);
  if (!(error instanceof PoolError) || !error.message.includes('maxPayload')) throw error;
  if (workerData === 'closes') await pool.close();
  if (workerData === 'exits') pool.apply('never_done', Buffer.alloc(0));
  parentPort.postMessage(sum);
  if (workerData === 'exits') process.exit();
}
