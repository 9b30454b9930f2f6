// Workers with limits and rules: what an unconfined worker may, a confined one is refused.
import { Pool, worker } from './aiopool.mjs';

async function trespass(options) {
  const pool = new Pool(worker(), { processes: 1, ...options });
  const said = await pool.apply('trespass', Buffer.alloc(0));
  await pool.close();
  return said.toString();
}

const free = await trespass({});
if (free !== 'files Success, socket Success, writing Success') throw new Error(free);
const said = await trespass({
  limits: { openFiles: 64 },
  sandbox: { readOnly: ['/'], readWrite: ['/dev'], noNetwork: true },
});
try {
  new Pool(worker(), { sandbox: { noNetwrk: true } });
  throw new Error('a rule that nobody knows was taken');
} catch (error) {
  if (!(error instanceof TypeError)) throw error;
}
console.log(`confined: ${said}`);
