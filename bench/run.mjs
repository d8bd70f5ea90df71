// `npm run bench -- --row NAME`: measures the row of that name, or all whose names begin so, and keeps what it found in out/bench/results: a
// row that is there is told from there unless --again. `--table` writes what is kept into bench/table.json, bench/README.md and README.md. Without
// either it lists the rows. --threads N, --repeat N; --count N or --full where a row counts; --isa NAME and --json for ops, which are
// shown, not kept.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { native } from './ops/op.mjs';
import { rows as families } from './families/ttft.mjs';
import { rows as attention } from './ops/attention.mjs';
import { rows as linear } from './ops/linear.mjs';
import { rows as rowOps } from './ops/rows.mjs';
import { keep, kept, writeTable } from './results.mjs';
import { measureRoof } from './roof/roof.mjs';
import { rows as peers } from './rows/rows.mjs';
import { rows as serving } from './serving/rows.mjs';

const ops = { ...linear, ...attention, ...rowOps };
const e2e = fileURLToPath(new URL('e2e', import.meta.url));
const scripts = readdirSync(e2e).flatMap((file) => (file.endsWith('.mjs') ? [file.slice(0, -4)] : []));

const commit = () => spawnSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).stdout?.trim();

/** A script's last line is its result. */
function runScript(name) {
  const { stdout } = spawnSync(process.execPath, [`${e2e}/${name}.mjs`], {
    stdio: ['inherit', 'pipe', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  return JSON.parse(stdout.trim().split('\n').pop());
}

const whole = {
  ...peers,
  ...Object.fromEntries(scripts.map((name) => [name, () => runScript(name)])),
  ...serving,
  ...families,
};

const { values } = parseArgs({
  options: {
    row: { type: 'string' },
    threads: { type: 'string' },
    isa: { type: 'string' },
    json: { type: 'boolean' },
    repeat: { type: 'string' },
    count: { type: 'string' },
    full: { type: 'boolean' },
    again: { type: 'boolean' },
    table: { type: 'boolean' },
  },
});
const exact = [ops, whole].some((rows) => Object.hasOwn(rows, values.row));
const wanted = (name) => values.row !== undefined && (exact ? name === values.row : name.startsWith(values.row));
const chosen = Object.keys(ops).filter(wanted);
const chosenWhole = Object.keys(whole).filter(wanted);
if (chosen.length + chosenWhole.length === 0 && !values.table) {
  console.log(`rows: ${[...Object.keys(whole), ...Object.keys(ops)].join(', ')}`);
  process.exit(values.row === undefined ? 0 : 2);
}

const given = ['threads', 'repeat', 'count'].filter((key) => values[key] !== undefined);
const asked = { ...Object.fromEntries(given.map((key) => [key, Number(values[key])])), full: values.full };
for (const name of chosenWhole) {
  let result = values.again ? undefined : kept(name, asked.repeat);
  if (result) {
    console.error(`${name}: kept from ${result.measured}; --again measures anew`);
  } else {
    const { pass, ...found } = await whole[name](asked);
    const { cpu, isas } = native.info();
    const isa = process.env.OCELLI_ISA ?? isas[0];
    result = { ...found, name, pass, ...asked, measured: new Date().toISOString(), commit: commit(), cpu, isa };
    keep(result);
  }
  const { pass, ...rest } = result;
  console.log(JSON.stringify({ name, pass, ...rest }));
  if (!pass) process.exitCode = 1;
}
if (values.table) console.log(writeTable(Object.keys(whole), Object.keys(peers)));
if (chosen.length === 0) process.exit();

const info = native.info();
const threads = Number(values.threads ?? info.cores);
const isa = values.isa ?? info.isas[0];
const roof = measureRoof(threads);
const giga = (x) => (x === undefined ? 'none' : (x / 1e9).toFixed(0));
console.log(`${info.cpu}, ${threads} thread(s), ${isa}`);
console.log(
  `roof: f32 ${giga(roof.f32)}, bf16 ${giga(roof.bf16)} GFLOP/s, int8 ${giga(roof.int8)} GOP/s, ` +
    `tiles of AMX ${giga(roof.tiles?.bf16)} and ${giga(roof.tiles?.int8)}, ${giga(roof.read)} GB/s read`,
);
for (const name of chosen) {
  const lines = ops[name](isa, threads, roof);
  if (values.json) console.log(JSON.stringify({ row: name, isa, threads, roof, lines }));
  else console.table(Object.fromEntries(lines.map(({ name: title, ...cells }) => [title, cells])));
}
