// Maps a C function over 1,000 inputs in worker processes.
import { Pool, number, worker } from './aiopool.mjs';

const COUNT = 1000;
const pool = new Pool(worker(), { processes: 4 });
const squares = await Promise.all(
  Array.from({ length: COUNT }, (_, i) => pool.apply('square', number(i))),
);
await pool.close();
let sum = 0n;
squares.forEach((bytes, i) => {
  const square = bytes.readBigUInt64LE();
  if (square !== BigInt(i) * BigInt(i)) throw new Error(`${i} squared is not ${square}`);
  sum += square;
});
console.log(`map: ${COUNT} squares, sum ${sum}`);
