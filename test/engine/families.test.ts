/** One model of each family through the whole engine: the reference's tokens, the same bits in chunks, in blocks and from caches. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LLM, SamplingParams, type EngineOptions } from '../../dist/index';
import { fixtureModels } from '../models/fixtures';

interface Case {
  name: string;
  prompt: string | null;
  messages?: { role: string; content: string | { type: string; text?: string }[] }[];
  add_special_tokens?: boolean;
  images: string[];
  input_ids: number[];
  processor_kwargs?: Record<string, unknown>;
  greedy: { token_ids: number[] };
}

const families = [
  'llama',
  'qwen3',
  'phi3',
  'gemma2',
  'smolvlm',
  'idefics3',
  'qwen2_vl',
  'qwen2_5_vl',
  'qwen3_vl',
  'llava_onevision',
  'internvl',
  'gemma3',
  'paligemma',
  'pixtral',
  'mistral3',
];

const params = new SamplingParams({ temperature: 0, maxTokens: 24, ignoreEos: true, logprobs: 0 });

/** Text and picture twice: the second time the prefix and the picture are cached. */
async function answers(folder: string, cases: readonly Case[], options: EngineOptions): Promise<unknown[]> {
  const llm = await LLM.load(folder, { dtype: 'float32', ...options });
  const found = [];
  for (const golden of [...cases, ...cases]) {
    const image = golden.images.map((name) => join(fixtureModels, 'images', name));
    const output = await llm.generate(
      {
        prompt: golden.prompt!,
        ...(image.length > 0 ? { multiModalData: { image } } : {}),
        ...(golden.processor_kwargs ? { mmProcessorKwargs: golden.processor_kwargs } : {}),
      },
      params,
    );
    const [answer] = output.outputs;
    expect([golden.name, output.promptTokenIds]).toEqual([golden.name, golden.input_ids]);
    expect([golden.name, answer!.tokenIds]).toEqual([golden.name, golden.greedy.token_ids]);
    found.push(answer!.logprobs!.map((entry) => [...entry.values()].map(({ logprob }) => logprob)));
  }
  await llm.dispose();
  return found;
}

test.each(families)('%s', async (name) => {
  const folder = join(fixtureModels, name);
  const all = (JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as { cases: Case[] }).cases;
  const cases = all.filter((c) => typeof c.prompt === 'string');
  const chats = all.filter((c) => c.messages !== undefined);
  expect(cases.length + chats.length).toBeGreaterThan(0);
  // A text model takes no limit of pictures.
  const limit: EngineOptions = all.some((c) => c.images.length > 0) ? { limitMmPerPrompt: { image: 2 } } : {};
  const whole = await answers(folder, cases, limit);
  // 64 tokens a step hold the longest span of these prompts and cut every other one.
  const cut = await answers(folder, cases, { ...limit, maxNumBatchedTokens: 64, maxNumSeqs: 2, blockSize: 4 });
  expect(cut).toEqual(whole);
  expect(whole.slice(cases.length)).toEqual(whole.slice(0, cases.length));

  const llm = await LLM.load(folder, {
    dtype: 'float32',
    ...limit,
    allowedLocalMediaPath: fixtureModels,
  });
  for (const { messages, images, input_ids: ids, greedy, processor_kwargs: kwargs } of chats) {
    if (kwargs) continue;
    const left = [...images];
    const given = messages!.map(({ role, content }) => ({
      role,
      content:
        typeof content === 'string'
          ? content
          : content.map((part) =>
              part.type === 'image' ? { type: 'image', image: join(fixtureModels, 'images', left.shift()!) } : part,
            ),
    }));
    const output = await llm.chat(given as never, params);
    expect(output.promptTokenIds).toEqual(ids);
    expect(output.outputs[0]!.tokenIds).toEqual(greedy.token_ids);
  }
  await llm.dispose();
});
