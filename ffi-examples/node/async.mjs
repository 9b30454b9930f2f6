// Asynchronous C tasks: one worker keeps 200 of them in flight, with a timer each.
import { Pool, number, worker } from './aiopool.mjs';

const COUNT = 200;
const pool = new Pool(worker(), { processes: 1, childConcurrency: COUNT });
const doubled = await Promise.all(
  Array.from({ length: COUNT }, (_, i) => pool.apply('slow_double', number(i))),
);
await pool.close();
const sum = doubled.reduce((all, bytes) => all + bytes.readBigUInt64LE(), 0n);
console.log(`async: ${COUNT} tasks in one worker, sum ${sum}`);
