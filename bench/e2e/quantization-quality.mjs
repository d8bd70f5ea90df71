// What quantised compute costs in answers: KL(float32 || mode) of the next token over a text, and how often the likeliest token is the
// same, on a real checkpoint. Both runs read the same file; float32 is its exact values.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const require = createRequire(import.meta.url);
const { LLM, ModelConfig } = require('../../dist/index.js');
const { loadNative } = require('../../dist/native.js');
const { openWeights } = require('../../dist/engine/open-weights.js');
const { weightFormat } = require('../../dist/engine/memory-plan.js');
const { programTexts } = require('../../dist/engine/item-size.js');
const { traceModel } = require('../../dist/nn/index.js');
const { Tokenizer } = require('../../dist/tokenizer/index.js');
void LLM;

const shared = process.env.OCELLI_SHARED ?? join(process.cwd(), '..', 'shared');
const file = process.env.OCELLI_GGUF ?? join(shared, 'models/SmolLM2-135M-Instruct.Q4_1.gguf');
const native = loadNative();
const chunk = 512;
/** Ordinary prose and code that every checkout has. */
const text = ['docs/architecture.md', 'docs/getting-started.md', 'docs/pictures.md', 'lib/tokenizer/bpe.ts']
  .map((name) => readFileSync(join(import.meta.dirname ?? '.', '../..', name), 'utf8'))
  .join('\n');

async function model(options) {
  const config = await ModelConfig.load(file, options);
  const traced = traceModel(config.modelClass, config.hfConfig, config.dtype);
  const { checkpoint, places } = await openWeights(native, config.source, traced);
  const handle = await native.createModel(checkpoint, {
    programs: programTexts(traced),
    ...places,
    ...weightFormat(config),
    backend: 'cpu',
    threads: native.info().cores,
  });
  return { config, handle };
}

const i32 = (data) => ({ dtype: 'i32', shape: [data.length], data: Int32Array.from(data) });

async function logits({ handle }, ids, kvDtype) {
  const index = [...ids.keys()];
  const inputs = {
    inputIds: i32(ids),
    positions: i32(index),
    sampleRows: i32(index),
    hi: i32(index.map((i) => i + 1)),
  };
  const run = await native.runProgram(handle, 0, inputs, { T: ids.length, S: ids.length, F: 0 }, { kvDtype });
  return run.outputs.logits;
}

function compare(a, b) {
  const [rows, width] = a.shape;
  let [kl, same] = [0, 0];
  for (let r = 0; r < rows; r++) {
    const p = a.data.subarray(r * width, (r + 1) * width);
    const q = b.data.subarray(r * width, (r + 1) * width);
    let [pTop, qTop] = [0, 0];
    for (let i = 1; i < width; i++) {
      if (p[i] > p[pTop]) pTop = i;
      if (q[i] > q[qTop]) qTop = i;
    }
    let [pSum, qSum] = [0, 0];
    for (let i = 0; i < width; i++) {
      pSum += Math.exp(p[i] - p[pTop]);
      qSum += Math.exp(q[i] - q[qTop]);
    }
    const shift = q[qTop] + Math.log(qSum) - p[pTop] - Math.log(pSum);
    for (let i = 0; i < width; i++) kl += (Math.exp(p[i] - p[pTop]) / pSum) * (p[i] - q[i] + shift);
    if (pTop === qTop) same++;
  }
  return { kl, same, rows };
}

const modes = [
  ['bfloat16', { dtype: 'bfloat16' }],
  ['int8 exact', { dtype: 'float32', quantization: 'int8', accuracy: 'exact' }],
  ['int8 balanced', { dtype: 'float32', quantization: 'int8' }],
  ['int8 fast', { dtype: 'float32', quantization: 'int8', accuracy: 'fast' }],
  ['int4 exact', { dtype: 'float32', quantization: 'int4', accuracy: 'exact' }],
  ['int4 balanced', { dtype: 'float32', quantization: 'int4' }],
  ['int4 fast', { dtype: 'float32', quantization: 'int4', accuracy: 'fast' }],
  // Keys and values alone.
  ['KV bfloat16', { dtype: 'float32' }, 'bf16'],
  ['KV int8', { dtype: 'float32' }, 'i8'],
];
const exact = await model({ dtype: 'float32' });
const tokenizer = await Tokenizer.load(exact.config.source);
const ids = tokenizer.encode(text).slice(0, Number(process.argv[2] ?? 2048));
const chunks = Array.from({ length: Math.ceil(ids.length / chunk) }, (_, i) => ids.slice(i * chunk, (i + 1) * chunk));
const totals = modes.map(() => ({ kl: 0, same: 0, rows: 0 }));
const loaded = [];
for (const [, options] of modes) loaded.push(await model(options));
for (const part of chunks) {
  const truth = await logits(exact, part, 'f32');
  for (const [i, other] of loaded.entries()) {
    const found = compare(truth, await logits(other, part, modes[i][2] ?? 'f32'));
    for (const name of ['kl', 'same', 'rows']) totals[i][name] += found[name];
  }
}
const value = Object.fromEntries(
  modes.map(([name], i) => [name, { kl: totals[i].kl / totals[i].rows, top1: totals[i].same / totals[i].rows }]),
);
const balanced = value['int8 balanced'];
const near = (mode) => value[mode].kl <= 0.0005 && value[mode].top1 >= 0.985;
const pass = balanced.kl <= 0.009 && balanced.top1 >= 0.955 && near('int8 exact') && near('int4 exact');
console.log(
  JSON.stringify({
    name: 'quantization-quality',
    goal: 'int8 balanced: KL <= 0.009, top-1 >= 95.5%; exact: KL <= 0.0005, top-1 >= 98.5%',
    tokens: ids.length,
    value,
    pass,
  }),
);
process.exitCode = pass ? 0 : 1;
