/** SmolLM3 with YaRN: log-probabilities against a float64 evaluation from the papers' formulas, by way of a GGUF file's own order of rows. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { completeConfig } from '../../dist/config/hf-config';
import { LLM } from '../../dist/index';
import { LlamaForCausalLM } from '../../dist/models/llama';
import { dumpProgram, traceModel } from '../../dist/nn';
import { writeGguf, type TensorSpec } from '../gguf/writer';

const [vocab, width, inner, layers, heads, kvHeads, dim] = [48, 32, 64, 5, 4, 2, 16];
const [theta, factor, original, eps] = [10000, 4, 32, 1e-5];
const folder = mkdtempSync(join(tmpdir(), 'ocelli-smollm3-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Weights of about a normal distribution, the same in every run. */
let state = 1;
function uniform(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32 - 0.5;
}

type Matrix = { rows: number; columns: number; data: Float32Array };
const tensors = new Map<string, Matrix>();
function matrix(name: string, rows: number, columns: number, scale = 2.5 / Math.sqrt(columns)): void {
  const data = Float32Array.from({ length: rows * columns }, () => scale * (uniform() + uniform() + uniform()));
  tensors.set(name, { rows, columns, data });
}
const norm = (name: string): void =>
  void tensors.set(name, { rows: 0, columns: width, data: Float32Array.from({ length: width }, () => 1 + uniform()) });

matrix('token_embd', vocab, width, 1);
norm('output_norm');
for (let i = 0; i < layers; i++) {
  for (const part of ['attn_norm', 'ffn_norm']) norm(`blk.${i}.${part}`);
  matrix(`blk.${i}.attn_q`, heads * dim, width);
  for (const part of ['attn_k', 'attn_v']) matrix(`blk.${i}.${part}`, kvHeads * dim, width);
  matrix(`blk.${i}.attn_output`, width, heads * dim);
  for (const part of ['ffn_gate', 'ffn_up']) matrix(`blk.${i}.${part}`, inner, width);
  matrix(`blk.${i}.ffn_down`, width, inner);
}

/**
 * YaRN (arXiv:2309.00071) as its authors and transformers compute it: the ramp rises over the index of a frequency, between those that
 * turn 32 times and once in the original length. What stretches attention, 0.1 ln s + 1, is on q and on k.
 */
function yarn(): { frequencies: number[]; sharpness: number } {
  const indexOf = (turns: number): number => ((dim / 2) * Math.log(original / (2 * Math.PI * turns))) / Math.log(theta);
  const low = Math.max(0, Math.floor(indexOf(32)));
  const high = Math.min(dim - 1, Math.ceil(indexOf(1)));
  const frequencies = Array.from({ length: dim / 2 }, (_, i) => {
    const plain = theta ** ((-2 * i) / dim);
    const ramp = Math.min(1, Math.max(0, (i - low) / (high - low)));
    return (1 - ramp) * plain + (ramp * plain) / factor;
  });
  return { frequencies, sharpness: 0.1 * Math.log(factor) + 1 };
}

const times = (name: string, x: readonly number[]): number[] => {
  const { rows, columns, data } = tensors.get(name)!;
  return Array.from({ length: rows }, (_, r) => x.reduce((sum, v, c) => sum + v * data[r * columns + c]!, 0));
};
function normed(name: string, x: readonly number[]): number[] {
  const scale = 1 / Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length + eps);
  return x.map((v, i) => v * scale * tensors.get(name)!.data[i]!);
}
const softmax = (scores: readonly number[]): number[] => {
  const top = Math.max(...scores);
  const weights = scores.map((s) => Math.exp(s - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
};

/** Log-probability of each token but the first. Rows of q and k come in the file's order: neighbours turn together. */
function reference(ids: readonly number[]): number[] {
  const { frequencies, sharpness } = yarn();
  const turned = (x: readonly number[], position: number): number[] =>
    x.map((v, i) => {
      const angle = position * frequencies[Math.floor((i % dim) / 2)]!;
      const other = i % 2 === 0 ? -x[i + 1]! : x[i - 1]!;
      return sharpness * (v * Math.cos(angle) + other * Math.sin(angle));
    });
  let hidden = ids.map((id) => [...tensors.get('token_embd')!.data.subarray(id * width, (id + 1) * width)]);
  for (let l = 0; l < layers; l++) {
    const at = (part: string): string => `blk.${l}.${part}`;
    const rope = (l + 1) % 4 !== 0 ? turned : (x: number[]) => x;
    const x = hidden.map((h) => normed(at('attn_norm'), h));
    const q = x.map((row, p) => rope(times(at('attn_q'), row), p));
    const k = x.map((row, p) => rope(times(at('attn_k'), row), p));
    const v = x.map((row) => times(at('attn_v'), row));
    hidden = hidden.map((h, p) => {
      const mixed: number[] = [];
      for (let head = 0; head < heads; head++) {
        const kv = Math.floor((head * kvHeads) / heads);
        const one = (rows: readonly number[][], s: number, of: number): number[] =>
          rows[s]!.slice(of * dim, (of + 1) * dim);
        const mine = one(q, p, head);
        const weights = softmax(
          Array.from(
            { length: p + 1 },
            (_, s) => one(k, s, kv).reduce((a, b, d) => a + b * mine[d]!, 0) / Math.sqrt(dim),
          ),
        );
        for (let d = 0; d < dim; d++) mixed.push(weights.reduce((sum, w, s) => sum + w * v[s]![kv * dim + d]!, 0));
      }
      const y = times(at('attn_output'), mixed).map((o, i) => o + h[i]!);
      const z = normed(at('ffn_norm'), y);
      const up = times(at('ffn_up'), z);
      const gated = times(at('ffn_gate'), z).map((g, i) => (g / (1 + Math.exp(-g))) * up[i]!);
      return times(at('ffn_down'), gated).map((o, i) => o + y[i]!);
    });
  }
  return ids.slice(1).map((id, p) => Math.log(softmax(times('token_embd', normed('output_norm', hidden[p]!)))[id]!));
}

test('a prompt beyond the original length, a layer without positions', async () => {
  const key = (k: string): string => `smollm3.${k}`;
  const file = writeGguf(join(folder, 'smollm3.gguf'), {
    metadata: [
      ['general.architecture', 'str', 'smollm3'],
      [key('block_count'), 'u32', layers],
      [key('context_length'), 'u32', original * factor],
      [key('embedding_length'), 'u32', width],
      [key('feed_forward_length'), 'u32', inner],
      [key('attention.head_count'), 'u32', heads],
      [key('attention.head_count_kv'), 'u32', kvHeads],
      [key('attention.key_length'), 'u32', dim],
      [key('attention.layer_norm_rms_epsilon'), 'f32', eps],
      [key('rope.freq_base'), 'f32', theta],
      [key('rope.scaling.type'), 'str', 'yarn'],
      [key('rope.scaling.factor'), 'f32', factor],
      [key('rope.scaling.original_context_length'), 'u32', original],
      ['tokenizer.ggml.model', 'str', 'gpt2'],
      ['tokenizer.ggml.pre', 'str', 'gpt-2'],
      ['tokenizer.ggml.tokens', 'str', ['a', 'b', 'ab', ...Array.from({ length: vocab - 3 }, (_, i) => `t${i}`)]],
      ['tokenizer.ggml.merges', 'str', ['a b']],
    ],
    tensors: [...tensors].map(([name, { rows, columns, data }]): TensorSpec => ({
      name: `${name}.weight`,
      shape: rows === 0 ? [columns] : [rows, columns],
      type: 'f32',
      data: new Uint8Array(data.buffer),
    })),
  });
  const llm = await LLM.load(file, { dtype: 'float32' });
  expect(llm.modelConfig.maxModelLen).toBe(original * factor);
  const ids = Array.from({ length: 100 }, () => Math.floor((uniform() + 0.5) * vocab));
  const { promptLogprobs } = await llm.generate(ids, { maxTokens: 1, promptLogprobs: 0, ignoreEos: true });
  await llm.dispose();
  const ours = ids.slice(1).map((id, i) => promptLogprobs![i + 1]!.get(id)!.logprob);
  const theirs = reference(ids);
  const worst = Math.max(...ours.map((o, i) => Math.abs(o - theirs[i]!)));
  // Sums of float32 over five layers, and angles of up to 100 rounded to 4e-6.
  expect(worst).toBeLessThan(3e-5);
});

test('both forms of configuration leave the same program', () => {
  const tiny = {
    model_type: 'smollm3',
    vocab_size: 16,
    hidden_size: 16,
    num_attention_heads: 2,
    num_key_value_heads: 1,
  };
  const of = (rope: object): string =>
    dumpProgram(
      traceModel(
        LlamaForCausalLM as never,
        completeConfig({ ...tiny, intermediate_size: 16, num_hidden_layers: 2, max_position_embeddings: 64, ...rope }),
      ).text,
    );
  const scaling = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 16 };
  const plain = of({ rope_theta: 5000 });
  const older = of({ rope_theta: 5000, rope_scaling: scaling });
  expect(older).not.toBe(plain);
  expect(of({ rope_theta: 5000, rope_scaling: { ...scaling, rope_type: undefined, type: 'yarn' } })).toBe(older);
  expect(of({ rope_parameters: { ...scaling, rope_theta: 5000 } })).toBe(older);
});
