// Submits and receives in Node's own event loop, 256 tasks in flight at a time.
// How fast that was, and how long one task alone takes there and back, goes to stderr.
import { Pool, number, worker } from './aiopool.mjs';

const COUNT = 10000;
const IN_FLIGHT = 256;
const ALONE = 1000;
const pool = new Pool(worker());
let submitted = 0;
let sum = 0n;
async function run() {
  while (submitted < COUNT) {
    const square = await pool.apply('square', number(submitted++));
    sum += square.readBigUInt64LE();
  }
}
const start = performance.now();
await Promise.all(Array.from({ length: IN_FLIGHT }, run));
const middle = performance.now();
for (let x = 0; x < ALONE; x++) await pool.apply('square', number(x));
const end = performance.now();
console.error(`${Math.round(COUNT / (middle - start) * 1000)} tasks a second`);
console.error(`${((end - middle) / ALONE * 1000).toFixed(1)} microseconds a round trip`);
await pool.close();
console.log(`loop: ${COUNT} squares, sum ${sum}`);
