// What the serving rows share: engines of real models' shapes with random weights, streams with the times of their tokens, and verdicts.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

export const { LLM } = createRequire(import.meta.url)('../../dist/index.js');

const llama = { hidden_act: 'silu', rms_norm_eps: 1e-5, max_position_embeddings: 4096, torch_dtype: 'bfloat16' };
const text = { architectures: ['LlamaForCausalLM'], model_type: 'llama', ...llama };
const tinyllama = {
  hidden_size: 2048,
  intermediate_size: 5632,
  num_hidden_layers: 22,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  vocab_size: 32000,
};

/** config.json of each shape; the weights are random (`loadFormat: 'dummy'`), so speeds only. */
export const shapes = {
  'tinyllama-1.1b': { ...text, ...tinyllama },
  'smollm2-135m': {
    ...text,
    hidden_size: 576,
    intermediate_size: 1536,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    vocab_size: 49152,
    tie_word_embeddings: true,
    rope_theta: 100000,
  },
  // CLIP ViT-L/14 at 336 before TinyLlama: 576 tokens a picture.
  'clip-l-336+tinyllama-1.1b': {
    architectures: ['LlavaForConditionalGeneration'],
    model_type: 'llava',
    image_token_index: 31999,
    projector_hidden_act: 'gelu',
    vision_feature_layer: -2,
    vision_feature_select_strategy: 'default',
    torch_dtype: 'bfloat16',
    text_config: { model_type: 'llama', ...llama, ...tinyllama },
    vision_config: {
      model_type: 'clip_vision_model',
      hidden_size: 1024,
      intermediate_size: 4096,
      num_hidden_layers: 24,
      num_attention_heads: 16,
      image_size: 336,
      patch_size: 14,
      projection_dim: 768,
    },
  },
};
// The same picture tower before one layer of text, where only the tower counts.
const whole = shapes['clip-l-336+tinyllama-1.1b'];
shapes['clip-l-336'] = { ...whole, text_config: { ...whole.text_config, num_hidden_layers: 1 } };

export const placeholder = shapes['clip-l-336+tinyllama-1.1b'].image_token_index;

export const processor = {
  image_processor_type: 'CLIPImageProcessor',
  size: { shortest_edge: 336 },
  crop_size: { height: 336, width: 336 },
  resample: 3,
  image_mean: [0.48145466, 0.4578275, 0.40821073],
  image_std: [0.26862954, 0.26130258, 0.27577711],
};

export async function load(shape, options = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-bench-'));
  try {
    writeFileSync(join(folder, 'config.json'), JSON.stringify(shapes[shape]));
    writeFileSync(join(folder, 'preprocessor_config.json'), JSON.stringify(processor));
    return await LLM.load(folder, { loadFormat: 'dummy', skipTokenizerInit: true, ...options });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

let state = 1;
/** From 0 to below 1; the same from run to run. */
export function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}

/** Ids of a prompt that nobody has sent before. */
export const ids = (length, vocab = 31000) => Array.from({ length }, () => 3 + Math.floor(random() * (vocab - 3)));

/** Pixels that nobody has sent before. */
export function noise(width, height) {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) data[i] = random() * 256;
  return { width, height, channels: 3, data };
}

/** A stream that notes when its tokens come. `times` grows as they do; `done` resolves with the output. */
export function follow(llm, prompt, params) {
  const started = performance.now();
  const stream = llm.stream(prompt, { temperature: 0, ignoreEos: true, ...params });
  const times = [];
  let heard = () => {};
  const done = (async () => {
    for await (const { outputs } of stream) {
      for (const { tokenIds } of outputs) times.push(...tokenIds.map(() => performance.now()));
      heard();
    }
    return stream.result;
  })();
  /** Resolves once `count` tokens have come. */
  const reach = async (count) => {
    while (times.length < count) await new Promise((resolve) => (heard = resolve));
  };
  return { started, times, done, reach, stream, ttft: () => times[0] - started };
}

const spin = `
const { parentPort, workerData: ms } = require('node:worker_threads');
const end = performance.now() + ms;
let worst = 0;
for (let before = performance.now(); before < end; ) {
  const now = performance.now();
  worst = Math.max(worst, now - before);
  before = now;
}
parentPort.postMessage(worst);`;

/** The longest that a loop stood still that does nothing but look at the clock, one per thread, in so many ms: what the machine adds to a gap. */
export async function stall(threads, ms) {
  const one = () => new Promise((resolve) => new Worker(spin, { eval: true, workerData: ms }).once('message', resolve));
  return Math.max(...(await Promise.all(Array.from({ length: threads }, one))));
}

export const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
export function percentile(list, p) {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * p) / 100) - 1)];
}
export const round = (x, digits = 1) => Math.round(x * 10 ** digits) / 10 ** digits;
export const gaps = (times) => times.slice(1).map((t, i) => t - times[i]);

/** Lowest and highest of the repetitions, and how busy the machine was with others' work when they began. */
export const spreadOf = (list, digits) => [round(Math.min(...list), digits), round(Math.max(...list), digits)];
export const load1 = () => round(loadavg()[0]);
