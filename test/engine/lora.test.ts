/** An adapter merged at load gives the bits of the same weights merged by hand; what does not fit is refused by its name. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LLM, type EngineOptions } from '../../dist/index';
import { fixtureModels } from '../models/fixtures';
import { codeOf } from './models';

interface Matrix {
  shape: number[];
  data: Float32Array;
}

type Tensors = Record<string, Matrix>;

function writeTensors(
  file: string,
  tensors: Tensors,
  kept: { header: object; bytes: Buffer } = { header: {}, bytes: Buffer.alloc(0) },
): void {
  let offset = kept.bytes.length;
  const header: Record<string, unknown> = { ...kept.header };
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(
    file,
    Buffer.concat([length, json, kept.bytes, ...Object.values(tensors).map((t) => Buffer.from(t.data.buffer))]),
  );
}

/** A checkpoint of bfloat16 tensors, and one of them in float32. */
function readCheckpoint(folder: string) {
  const all = readFileSync(join(folder, 'model.safetensors'));
  const size = Number(all.readBigUInt64LE(0));
  const header = JSON.parse(all.toString('utf8', 8, 8 + size)) as Record<
    string,
    { shape: number[]; data_offsets: [number, number] }
  >;
  const bytes = all.subarray(8 + size);
  const float = (name: string): Matrix => {
    const { shape, data_offsets: at } = header[name]!;
    const bits = Uint32Array.from({ length: (at[1] - at[0]) / 2 }, (_, i) => bytes.readUInt16LE(at[0] + 2 * i) << 16);
    return { shape, data: new Float32Array(bits.buffer) };
  };
  return { header, bytes, float };
}

/** Eighths from -4/8 to 3/8: products and short sums of them are exact, so that a merge rounds once, whatever fuses. */
function eighths(seed: number, rows: number, columns: number): Matrix {
  let state = seed;
  const next = (): number => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 29) / 8 - 0.5;
  return { shape: [rows, columns], data: Float32Array.from({ length: rows * columns }, next) };
}

const scratch = (name: string): string => mkdtempSync(join(tmpdir(), `ocelli-lora-${name}-`));

function writeAdapter(tensors: Tensors, config: object = {}): string {
  const folder = scratch('adapter');
  writeFileSync(
    join(folder, 'adapter_config.json'),
    JSON.stringify({ peft_type: 'LORA', r: 4, lora_alpha: 8, bias: 'none', ...config }),
  );
  writeTensors(join(folder, 'adapter_model.safetensors'), tensors);
  return folder;
}

/** Halves for each module (checkpoint name -> as the adapter spells it), and the model's folder with them merged. */
function adapt(model: string, modules: Record<string, string>, scale: number, config: object, rank = 4) {
  const base = join(fixtureModels, model);
  const { header, bytes, float } = readCheckpoint(base);
  const halves: Tensors = {};
  const merged: Tensors = {};
  for (const [i, [stored, spelled]] of Object.entries(modules).entries()) {
    const { shape, data } = float(`${stored}.weight`);
    const [rows, width] = shape as [number, number];
    const [a, b] = [eighths(2 * i + 1, rank, width), eighths(2 * i + 2, rows, rank)];
    halves[`base_model.model.${spelled}.lora_A.weight`] = a;
    halves[`base_model.model.${spelled}.lora_B.weight`] = b;
    merged[`${stored}.weight`] = {
      shape,
      data: data.map((w, at) => {
        let sum = 0;
        for (let r = 0; r < rank; r++)
          sum += b.data[Math.floor(at / width) * rank + r]! * a.data[r * width + (at % width)]!;
        return w + scale * sum;
      }),
    };
    delete header[`${stored}.weight`];
  }
  const folder = scratch(model);
  cpSync(base, folder, { recursive: true });
  rmSync(join(folder, 'model.safetensors'));
  // The bfloat16 bytes stay where they are; those of merged weights would be a hole, and are listed under a name that nobody asks for.
  const rest = Object.keys(merged).map((name, i) => [`unused.${i}`, readCheckpoint(base).header[name]!] as const);
  writeTensors(join(folder, 'model.safetensors'), merged, {
    header: { ...header, ...Object.fromEntries(rest) },
    bytes,
  });
  return { base, folder, adapter: writeAdapter(halves, { r: rank, ...config }) };
}

/** Bits of hidden states and of an answer's log-probabilities. */
async function bitsOf(model: string, options: EngineOptions): Promise<unknown> {
  const llm = await LLM.load(model, { dtype: 'float32', ...options });
  const prompt = Array.from({ length: 20 }, (_, i) => 5 + 7 * i);
  const [hidden] = await llm.embed(prompt, { pooling: 'mean', normalize: false });
  const { outputs } = await llm.generate(prompt, { temperature: 0, maxTokens: 4, logprobs: 2, ignoreEos: true });
  await llm.dispose();
  return [hidden, outputs[0]!.tokenIds, outputs[0]!.logprobs!.map((m) => [...m])];
}

const layer = (prefix: string, ...names: string[]): Record<string, string> =>
  Object.fromEntries(names.map((n) => [`${prefix}layers.1.${n}`, `${prefix}layers.1.${n}`]));

describe('equals the weights merged by hand', () => {
  const llama = layer(
    'model.',
    'self_attn.q_proj',
    'self_attn.v_proj',
    'self_attn.o_proj',
    'mlp.down_proj',
    'mlp.up_proj',
  );
  const alphas = Object.fromEntries(['q_proj', 'v_proj', 'o_proj', 'down_proj', 'up_proj'].map((name) => [name, 2]));
  const llava = layer('language_model.model.', 'self_attn.k_proj', 'mlp.gate_proj');
  const renamed = Object.fromEntries(
    Object.keys(llava).map((name) => [name, name.replace('language_model.model.', 'model.language_model.')]),
  );
  test.each<[string, string, Record<string, string>, number, object, EngineOptions]>([
    ['alpha / r', 'llama', { ...llama, lm_head: 'lm_head' }, 2, {}, {}],
    ['alpha / sqrt(r)', 'llama', llama, 4, { use_rslora: true }, {}],
    ['alphas by module', 'llama', llama, 0.5, { alpha_pattern: { layers: 9, self_attn: 9, ...alphas } }, {}],
    ['fused weights', 'phi3', layer('model.', 'self_attn.qkv_proj', 'mlp.gate_up_proj'), 2, {}, {}],
    ['a language model inside', 'llava-1.5', llava, 2, {}, {}],
    ['the names of transformers 5', 'llava-1.5', renamed, 2, {}, {}],
    ['in bfloat16', 'qwen3', layer('model.', 'self_attn.q_proj', 'mlp.down_proj'), 2, {}, { dtype: 'bfloat16' }],
    ['in eight bits, which come behind', 'llama', llama, 2, {}, { quantization: 'int8' }],
  ])('%s', async (_name, model, modules, scale, config, options) => {
    const { base, folder, adapter } = adapt(model, modules, scale, config);
    const found = await bitsOf(base, { ...options, lora: adapter });
    expect(found).toEqual(await bitsOf(folder, options));
    expect(found).not.toEqual(await bitsOf(base, options));
  });

  test('scales, and several adapters one after the other', async () => {
    const { base, folder, adapter } = adapt('llama', llama, 2, {});
    const whole = await bitsOf(folder, {});
    expect(await bitsOf(base, { lora: [{ path: adapter, scale: 1 }] })).toEqual(whole);
    expect(await bitsOf(base, { lora: [{ path: adapter, scale: 0 }] })).toEqual(await bitsOf(base, {}));
    const twice = adapt('llama', llama, 4, {});
    expect(
      await bitsOf(base, {
        lora: [
          { path: adapter, scale: 1 },
          { path: adapter, scale: 0 },
        ],
      }),
    ).toEqual(whole);
    expect(await bitsOf(base, { lora: [{ path: adapter, scale: 2 }] })).toEqual(await bitsOf(twice.folder, {}));
  });
});

describe('refuses', () => {
  const base = join(fixtureModels, 'llama');
  const q = 'base_model.model.model.layers.0.self_attn.q_proj';
  const good: Tensors = { [`${q}.lora_A.weight`]: eighths(1, 4, 64), [`${q}.lora_B.weight`]: eighths(2, 64, 4) };
  const load = (lora: string): Promise<LLM> => LLM.load(base, { lora });

  test.each<[string, Tensors, object, string]>([
    ['a rank that is not r', good, { r: 8 }, `${q}.lora_A.weight`],
    ['halves of two ranks', { ...good, [`${q}.lora_B.weight`]: eighths(2, 64, 3) }, {}, `${q}.lora_B.weight`],
    ['rows of another model', { ...good, [`${q}.lora_B.weight`]: eighths(2, 65, 4) }, {}, `${q}.lora_B.weight`],
    ['a missing half', { [`${q}.lora_A.weight`]: eighths(1, 4, 64) }, {}, 'model.layers.0.self_attn.q_proj.lora_B'],
    [
      'an unknown module',
      {
        'base_model.model.model.layers.9.x.lora_A.weight': eighths(1, 4, 64),
        'base_model.model.model.layers.9.x.lora_B.weight': eighths(2, 64, 4),
      },
      {},
      'model.layers.9.x',
    ],
    [
      'an embedding',
      {
        'base_model.model.model.embed_tokens.lora_A.weight': eighths(1, 4, 64),
        'base_model.model.model.embed_tokens.lora_B.weight': eighths(2, 480, 4),
      },
      {},
      'model.embed_tokens',
    ],
    [
      'a magnitude (DoRA)',
      { ...good, [`${q}.lora_magnitude_vector`]: eighths(3, 1, 64) },
      {},
      `${q}.lora_magnitude_vector`,
    ],
    ['no tensors', {}, {}, 'adapter_model.safetensors'],
    ['use_dora', good, { use_dora: true }, 'use_dora'],
    ['biases', good, { bias: 'all' }, 'bias'],
    ['whole modules', good, { modules_to_save: ['lm_head'] }, 'modules_to_save'],
    ['another method', good, { peft_type: 'IA3' }, 'peft_type'],
    ['changed base weights', good, { init_lora_weights: 'pissa' }, 'init_lora_weights'],
    ['no rank', good, { r: 0 }, 'r'],
    ['no alpha', good, { lora_alpha: 'eight' }, 'lora_alpha'],
    ['a pattern that is a program', good, { rank_pattern: { '(a+)+$': 4 } }, 'rank_pattern'],
  ])('%s', async (_name, tensors, config, field) => {
    await expect(load(writeAdapter(tensors, config))).rejects.toMatchObject({ code: 'ERR_LORA', details: { field } });
  });

  test('folders that are none, broken files, and random weights', async () => {
    const folder = writeAdapter(good);
    expect(await codeOf(load(join(folder, 'nothing')))).toBe('ERR_LORA');
    expect(await codeOf(LLM.load(base, { lora: folder, loadFormat: 'dummy' }))).toBe('ERR_UNSUPPORTED');
    expect(await codeOf(LLM.load(base, { lora: [{ path: folder, scale: NaN }] }))).toBe('ERR_OPTION');
    const bytes = readFileSync(join(folder, 'adapter_model.safetensors'));
    writeFileSync(join(folder, 'adapter_model.safetensors'), bytes.subarray(0, bytes.length - 8));
    expect(await codeOf(load(folder))).toMatch(/^ERR_CHECKPOINT/);
    rmSync(join(folder, 'adapter_model.safetensors'));
    mkdirSync(join(folder, 'adapter_model.safetensors'));
    expect(await codeOf(load(folder))).toBe('ERR_LORA');
  });
});
