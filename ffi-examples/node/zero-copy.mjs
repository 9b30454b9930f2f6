// Large inputs and outputs without a copy: each is written where the other side reads it.
import { Pool, worker } from './aiopool.mjs';

const COUNT = 8;
const SIZE = 4 << 20;
const pool = new Pool(worker());
const outputs = await Promise.all(
  Array.from({ length: COUNT }, (_, i) =>
    pool.applyInPlace('invert', SIZE, (bytes) => bytes.fill(i + 1))),
);
let sum = 0;
for (const output of outputs) {
  for (const byte of output.bytes) sum += byte;
  output.release();
}
await pool.close();
console.log(`zero-copy: ${COUNT} inputs and outputs of ${SIZE >> 20} MiB, sum ${sum}`);
