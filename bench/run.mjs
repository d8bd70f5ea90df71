// `npm run bench -- --row NAME [--threads N] [--isa NAME]`: measures one row (or all whose names begin so) beside the machine's roof, taken in
// the same run. Without --row it lists them. Rows of the whole engine print one line of JSON each; e2e/ are scripts of their own, serving/
// takes --repeat N, or --count N and --full where it counts.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { native } from './ops/op.mjs';
import { rows as attention } from './ops/attention.mjs';
import { rows as linear } from './ops/linear.mjs';
import { rows as rowOps } from './ops/rows.mjs';
import { measureRoof } from './roof/roof.mjs';
import { rows as serving } from './serving/rows.mjs';

const all = { ...linear, ...attention, ...rowOps };
const e2e = fileURLToPath(new URL('e2e', import.meta.url));
const scripts = readdirSync(e2e).flatMap((file) => (file.endsWith('.mjs') ? [file.slice(0, -4)] : []));

const { values } = parseArgs({
  options: {
    row: { type: 'string' },
    threads: { type: 'string' },
    isa: { type: 'string' },
    json: { type: 'boolean' },
    repeat: { type: 'string' },
    count: { type: 'string' },
    full: { type: 'boolean' },
  },
});
const wanted = (name) => values.row !== undefined && name.startsWith(values.row);
const chosen = Object.keys(all).filter(wanted);
const chosenScripts = scripts.filter(wanted);
const chosenServing = Object.keys(serving).filter(wanted);
if (chosen.length + chosenScripts.length + chosenServing.length === 0) {
  console.log(`rows: ${[...Object.keys(all), ...scripts, ...Object.keys(serving)].join(', ')}`);
  process.exit(values.row === undefined ? 0 : 2);
}
for (const name of chosenScripts) {
  const { status } = spawnSync(process.execPath, [`${e2e}/${name}.mjs`], { stdio: 'inherit' });
  if (status !== 0) process.exitCode = 1;
}
for (const name of chosenServing) {
  const given = ['threads', 'repeat', 'count'].filter((key) => values[key] !== undefined);
  const asked = Object.fromEntries(given.map((key) => [key, Number(values[key])]));
  const { pass, ...result } = await serving[name]({ ...asked, full: values.full });
  console.log(JSON.stringify({ name, pass, ...result }));
  if (!pass) process.exitCode = 1;
}
if (chosen.length === 0) process.exit();

const info = native.info();
const threads = Number(values.threads ?? info.cores);
const isa = values.isa ?? info.isas[0];
const roof = measureRoof(threads);
const giga = (x) => (x === undefined ? 'none' : (x / 1e9).toFixed(0));
console.log(`${info.cpu}, ${threads} thread(s), ${isa}`);
console.log(
  `roof: f32 ${giga(roof.f32)}, bf16 ${giga(roof.bf16)} GFLOP/s, int8 ${giga(roof.int8)} GOP/s, ${giga(roof.read)} GB/s read`,
);
for (const name of chosen) {
  const lines = all[name](isa, threads, roof);
  if (values.json) console.log(JSON.stringify({ row: name, isa, threads, roof, lines }));
  else console.table(Object.fromEntries(lines.map(({ name: title, ...cells }) => [title, cells])));
}
