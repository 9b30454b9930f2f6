// Pools that are dropped without `close`: each is freed once its last task is over, with all its workers.
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Pool, PoolError, number, shutdown, worker } from './aiopool.mjs';

setFlagsFromString('--expose_gc');
const collect = runInNewContext('gc');
const descriptors = () => readdirSync('/proc/self/fd').length;

/** Starts a pool and leaves it with a task. */
const task = (i) => new Pool(worker(), { processes: 1 }).apply('slow_double', number(i));

/** Ends the library when there is no pool any more. */
async function ended() {
  for (;;) {
    collect();
    await sleep(10);
    try {
      return shutdown();
    } catch (error) {
      if (!(error instanceof PoolError)) throw error;
    }
  }
}

const first = new Pool(worker(), { processes: 1 });
await first.apply('square', number(1));
await first.close();
shutdown();
const before = descriptors();
const tasks = [1, 2, 3].map(task);
collect();
const values = await Promise.all(tasks);
await ended();
if (descriptors() !== before) throw new Error(`${descriptors()} descriptors, not ${before}`);
console.log(`dropped: ${values.length} tasks done, sum ${values.reduce((sum, value) => sum + value.readBigUInt64LE(), 0n)}, nothing left`);
