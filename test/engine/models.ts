/** Models that the engine's tests run: the built-in one, a golden folder, and random weights of a real model's width. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LLM, type EngineOptions, type TextPrompt } from '../../dist/index';
import { root } from '../models/fixtures';

export const samples = join(root, 'models', 'demo', 'samples');
export const picture = (name: string): string => join(samples, `${name}.png`);

export function question(text: string, image = picture('four-shapes')): TextPrompt {
  return { prompt: `USER: <image>\n${text} ASSISTANT:`, multiModalData: { image } };
}

/** Two layers of TinyLlama's width (hidden 2048, 32 heads of 64, 4 KV heads, vocabulary 32,000), no checkpoint. */
export function realWidth(options: EngineOptions = {}, config: Record<string, unknown> = {}): Promise<LLM> {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-real-width-'));
  const file = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: 2048,
    intermediate_size: 5632,
    num_hidden_layers: 2,
    num_attention_heads: 32,
    num_key_value_heads: 4,
    vocab_size: 32000,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    hidden_act: 'silu',
    torch_dtype: 'bfloat16',
    ...config,
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(file));
  return LLM.load(folder, { loadFormat: 'dummy', skipTokenizerInit: true, seed: 7, ...options });
}

/** Ids that look like a prompt and differ from one `seed` to the next. */
export function randomIds(seed: number, length: number, vocab = 32000): number[] {
  let state = seed + 1;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 3 + (state % (vocab - 3));
  });
}

/** The code of the OcelliError that a promise rejects with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (e) {
    return (e as { code: string }).code;
  }
  throw new Error('expected a rejection');
}
