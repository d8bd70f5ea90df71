/** Multimodal checkpoints for text alone: without their towers, and as a text class that was asked for. */
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LLM, ModelConfig, SamplingParams, type EngineOptions } from '../../dist/index';
import { planModel } from '../../dist/engine/loaded-model';
import { codeOf } from '../registries/support';
import { fixtureModels } from './fixtures';

const params = new SamplingParams({ temperature: 0, maxTokens: 8, ignoreEos: true, logprobs: 5, promptLogprobs: 5 });
const prompt = Array.from({ length: 40 }, (_, i) => 5 + ((i * 37) % 250));
const nothing = { limitMmPerPrompt: { image: 0, video: 0 } };

/** Everything that a text prompt's logits show. */
async function answer(folder: string, options: EngineOptions): Promise<unknown> {
  const llm = await LLM.load(folder, { dtype: 'float32', ...options });
  const { outputs, promptLogprobs } = await llm.generate(prompt, params);
  await llm.dispose();
  return { ids: outputs[0]!.tokenIds, logprobs: outputs[0]!.logprobs, promptLogprobs };
}

test.each([
  ['llava-1.5', 'LlamaForCausalLM'],
  ['llava-next-mistral', 'MistralForCausalLM'],
  ['llava_onevision', 'Qwen2ForCausalLM'],
  ['qwen2_vl', 'Qwen2ForCausalLM'],
  ['qwen2_5_vl', 'Qwen2ForCausalLM'],
  // Its M-RoPE is interleaved; three equal axes still are one.
  ['qwen3_vl', 'Qwen3ForCausalLM'],
  ['smolvlm', 'LlamaForCausalLM'],
  ['idefics3', 'LlamaForCausalLM'],
  ['internvl', 'Qwen2ForCausalLM'],
  ['gemma3', 'Gemma3ForCausalLM'],
  ['pixtral', 'MistralForCausalLM'],
  ['mistral3', 'MistralForCausalLM'],
])('%s without its tower, and as %s: the same bits', async (name, architecture) => {
  const folder = join(fixtureModels, name);
  const whole = await answer(folder, {});
  expect(await answer(folder, nothing)).toEqual(whole);
  expect(await answer(folder, { architecture })).toEqual(whole);
});

test('neither the weights of a tower that no item may reach nor memory for its pictures are in the plan', async () => {
  const folder = join(fixtureModels, 'qwen2_vl');
  const plan = async (options: EngineOptions) => (await planModel(folder, { dtype: 'float32', ...options })).plan;
  const [whole, none, text] = await Promise.all([plan({}), plan(nothing), plan({ architecture: 'Qwen2ForCausalLM' })]);
  expect(none.weights).toBeLessThan(whole.weights);
  expect([none.encoderCache, none.encoderActivations, none.maxMultiModalTokens]).toEqual([0, 0, 0]);
  expect([text.weights, text.encoderCache]).toEqual([none.weights, 0]);
});

test('a picture is refused by both', async () => {
  const folder = join(fixtureModels, 'llava-1.5');
  const image = { width: 4, height: 4, channels: 3 as const, data: new Uint8Array(48) };
  for (const options of [nothing, { architecture: 'LlamaForCausalLM' }]) {
    const llm = await LLM.load(folder, options);
    expect(await codeOf(() => llm.generate({ promptTokenIds: [5], multiModalData: { image } }))).toBe('ERR_MM_LIMIT');
    await llm.dispose();
  }
});

test('an unknown multimodal checkpoint: the error says how, and its tower is not looked at', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-text-part-'));
  cpSync(join(fixtureModels, 'llava-1.5'), folder, { recursive: true });
  const file = join(folder, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  const unknown = {
    architectures: ['OtterForConditionalGeneration'],
    model_type: 'otter',
    text_config: { model_type: 'llama', ...(config.text_config as object) },
    vision_config: 'unheard of',
  };
  writeFileSync(file, JSON.stringify(unknown));
  await expect(ModelConfig.load(folder)).rejects.toMatchObject({
    code: 'ERR_UNKNOWN_ARCHITECTURE',
    hint: expect.stringContaining('the option architecture'),
  });
  const architecture = 'LlamaForCausalLM';
  expect(await answer(folder, { architecture })).toEqual(await answer(join(fixtureModels, 'llava-1.5'), {}));
  await expect(ModelConfig.load(folder, { architecture: 'LlamaForCausal' })).rejects.toMatchObject({
    details: { nearest: architecture },
  });
});
