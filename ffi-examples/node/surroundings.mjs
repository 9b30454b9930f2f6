// Workers that are what this process is not.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { getPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Pool, worker } from './aiopool.mjs';

async function said(surroundings, prints = '') {
  const pool = new Pool(worker(), { processes: 1, surroundings });
  const text = await pool.apply('surroundings', Buffer.from(prints));
  await pool.close();
  return text.toString();
}

const printed = mkdtempSync(join(tmpdir(), 'aiopool-node-'));
process.env.GREETING = 'from the host';
const niceness = getPriority();
const free = await said({});
if (!free.startsWith('GREETING from the host, in ') || !free.endsWith(`niceness ${niceness}`)) {
  throw new Error(free);
}
const told = await said(
  { env: { GREETING: 'hello' }, cwd: '/', umask: 0o027, nice: 1, outputTo: printed },
  'a line of a worker\n',
);
const nicer = Number(told.split(' ').at(-1));
if (nicer !== Math.min(niceness + 1, 19)) throw new Error(told);
const without = await said({ env: { GREETING: null } });
if (!without.startsWith('GREETING not set, ')) throw new Error(without);
try {
  await said({ envv: {} });
  throw new Error('an option that nobody knows was taken');
} catch (error) {
  if (!(error instanceof TypeError)) throw error;
}
// Workers run where they are told to, and nowhere else.
const [, first] = readFileSync('/proc/self/status', 'utf8').match(/Cpus_allowed_list:\s*(\d+)/);
await said({ processors: [Number(first)] });
for (const processors of [[], [2 ** 30]]) {
  const refused = await said({ processors }).catch((error) => error);
  if (!refused.message?.includes('processors')) throw new Error(`taken: ${refused}`);
}
const line = readFileSync(join(printed, 'worker-0.out'), 'utf8');
rmSync(printed, { recursive: true });
process.stdout.write(`surroundings: ${told.slice(0, told.lastIndexOf(' '))} of its own; ${line}`);
