// A task function that crashes takes its worker down, and nothing else.
import { Pool, WORKER_LOST, number, worker } from './aiopool.mjs';

const COUNT = 100;
const pool = new Pool(worker(), { processes: 2, childConcurrency: 1 });
const ends = await Promise.allSettled(
  Array.from({ length: COUNT }, (_, i) => pool.apply('fragile', number(i))),
);
await pool.close();
let ok = 0;
let lost = 0;
ends.forEach((end, i) => {
  if (end.status === 'fulfilled') ok++;
  else if (end.reason.status === WORKER_LOST && i % 20 === 7) lost++;
  else throw end.reason;
});
console.log(`crash: ${ok} done, ${lost} lost with their workers, each replaced`);
