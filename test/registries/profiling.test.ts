/** What load computes from the registered hooks: sequences of the dummy batch, the most tokens, bytes of a block (v0.6.3, profile_run). */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { estimateMemory, type EngineOptions, type MemoryPlan } from '../../dist/index';

const folder = mkdtempSync(join(tmpdir(), 'ocelli-profiling-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The real families' towers and figures over a text model of a few kilobytes. */
async function plan(modelType: 'llava' | 'llava_next', text: object, options: EngineOptions): Promise<MemoryPlan> {
  const architectures = [modelType === 'llava' ? 'LlavaForConditionalGeneration' : 'LlavaNextForConditionalGeneration'];
  const small = {
    hidden_size: 16,
    intermediate_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 1,
    vocab_size: 32064,
  };
  const config = { architectures, model_type: modelType, torch_dtype: 'bfloat16', text_config: { ...small, ...text } };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  const processor = modelType === 'llava' ? 'CLIPImageProcessor' : 'LlavaNextImageProcessor';
  const sizes = { size: { shortest_edge: 336 }, crop_size: { height: 336, width: 336 } };
  writeFileSync(
    join(folder, 'preprocessor_config.json'),
    JSON.stringify({ image_processor_type: processor, ...sizes }),
  );
  return estimateMemory(folder, { loadFormat: 'dummy', kvCacheMemoryBytes: 2 ** 26, ...options });
}

const vicuna = { model_type: 'llama', max_position_embeddings: 4096 };
const mistral = { model_type: 'mistral', max_position_embeddings: 32768, num_key_value_heads: 1 };

// v0.6.3: maxNumSeqs 256, and maxNumBatchedTokens max(model length, 5120) for a multimodal model.
test.each<['llava' | 'llava_next', object, number, number, number, number]>([
  ['llava', vicuna, 1, 5120, 576, 8],
  ['llava', vicuna, 4, 5120, 2304, 2],
  ['llava', vicuna, 10, 5120, 5760, 1],
  ['llava_next', mistral, 1, 32768, 2928, 11],
])(
  '%s, %j, limit %d, %d tokens a step: at most %d of pictures, %d sequences',
  async (type, text, limit, batched, tokens, sequences) => {
    const options = { maxNumBatchedTokens: batched, maxNumSeqs: 256, limitMmPerPrompt: { image: limit } };
    expect(await plan(type, text, options)).toMatchObject({
      maxMultiModalTokens: tokens,
      profiledSequences: sequences,
    });
  },
);

test.each([
  ['Vicuna-7B', { ...vicuna, num_hidden_layers: 32, num_attention_heads: 32, head_dim: 128 }, 8],
  [
    'Mistral-7B',
    { ...mistral, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8, head_dim: 128 },
    2,
  ],
])('a block of 16 tokens of %s in 16 bits: %#', async (_, text, mebibytes) => {
  expect((await plan('llava', text, { maxModelLen: 64 })).kvBytesPerBlock).toBe(mebibytes * 2 ** 20);
});
