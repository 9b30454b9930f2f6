// Submits and receives in Node's own event loop, 256 tasks in flight at a time.
import { Pool, number, worker } from './aiopool.mjs';

const COUNT = 10000;
const IN_FLIGHT = 256;
const pool = new Pool(worker());
let submitted = 0;
let sum = 0n;
async function run() {
  while (submitted < COUNT) {
    const square = await pool.apply('square', number(submitted++));
    sum += square.readBigUInt64LE();
  }
}
await Promise.all(Array.from({ length: IN_FLIGHT }, run));
await pool.close();
console.log(`loop: ${COUNT} squares, sum ${sum}`);
