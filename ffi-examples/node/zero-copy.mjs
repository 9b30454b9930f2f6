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

// More at once than there is memory for: those that find none wait. One of them is not written.
const small = new Pool(worker(), { maxPayload: 1 << 20, inputArena: 4 << 20, outputArena: 96 << 20 });
const ends = await Promise.allSettled(
  Array.from({ length: 40 }, (_, i) =>
    small.applyInPlace('invert', 1 << 20, (bytes) => {
      if (i === 20) throw new Error('not written');
      bytes.fill(i);
    })),
);
ends.forEach(({ value, reason }, i) => {
  if (i === 20 ? reason?.message !== 'not written' : value?.bytes.at(-1) !== 255 - i) throw reason ?? new Error(i);
  value?.release();
});
await small.close();
console.log(`zero-copy: ${COUNT} inputs and outputs of ${SIZE >> 20} MiB, sum ${sum}`);
