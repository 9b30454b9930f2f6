// Compares the structs of aiopool.mjs with those of the header, field by field.
import { readFileSync } from 'node:fs';
import koffi from 'koffi';
import { Call, Options, Surroundings } from './aiopool.mjs';

const known = readFileSync(new URL('../../crates/aiopool-capi/tests/abi/aiopool.sizes', import.meta.url), 'utf8')
  .trim().split('\n').map((line) => line.split(' '));
let compared = 0;
const structs = [
  ['aiopool_pool_options', Options], ['aiopool_call', Call], ['aiopool_surroundings', Surroundings],
];
for (const [name, type] of structs) {
  for (const [field, offset] of known) {
    const [struct, member] = field.split('.');
    if (struct !== name) continue;
    const is = member === undefined ? koffi.sizeof(type) : koffi.offsetof(type, member);
    if (is !== Number(offset)) throw new Error(`${field} is at ${is}, not ${offset}`);
    compared++;
  }
}
if (compared < 60) throw new Error(`only ${compared} fields were compared`);
