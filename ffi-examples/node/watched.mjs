// A pool as its host sees it: its name, how far a task is, a timeline, and the end of it all.
import { readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool, PoolError, number, shutdown, worker } from './aiopool.mjs';

const refused = (what, call) => {
  try {
    call();
  } catch (error) {
    if (error instanceof PoolError) return;
    throw error;
  }
  throw new Error(what);
};

const pool = new Pool(worker(), { processes: 1, name: 'watched-node', blockedAfterMs: 60000 });
const path = join(tmpdir(), `aiopool-node-${process.pid}.json`);
pool.trace(path);
refused('recorded twice', () => pool.trace(path));
const controller = new AbortController();
// A call that was never submitted is nowhere, whichever comes after it.
const never = pool.submit('never_done', Buffer.alloc(0), { signal: AbortSignal.abort() });
await never.output.catch(() => {});
const task = pool.submit('never_done', Buffer.alloc(0), { signal: controller.signal });
while (task.progress() !== 42n) await sleep(1);
if (never.progress() !== undefined) throw new Error('a refused call has the progress of the next');
controller.abort();
const error = await task.output.catch((error) => error);
if (error.name !== 'AbortError') throw error;
if (task.progress() !== undefined) throw new Error('a task that is over is somewhere');
pool.endTrace();
const names = JSON.parse(readFileSync(path, 'utf8')).traceEvents.map((event) => event.name);
rmSync(path);
if (!names.includes('never_done')) throw new Error('no timeline of the task');
refused('the library ended under a pool', shutdown);
await pool.close();
shutdown();
const again = new Pool(worker(), { processes: 1 });
await again.apply('square', number(2));
await again.close();
console.log('watched: 42 steps far, cancelled; a timeline; ended and begun again');
