/** Embeddings: pooled hidden states against those of transformers, and the same bits however a prompt comes to its end. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LLM, type EmbedOptions, type Prompt } from '../../dist/index';
import { readGoldenFolder, type GoldenFolder } from '../goldens/folder';
import { fixtureModels } from '../models/fixtures';
import { codeOf, picture, question, randomIds, realWidth } from './models';

const modes = ['last', 'mean', 'cls'] as const;

/** Of the reference's hidden rows [T, width], in double. */
function pooled(golden: GoldenFolder, caseName: string, pooling: (typeof modes)[number]): number[] {
  const { shape, data } = golden.tensor(`${caseName}.hidden.final`);
  const [rows, width] = shape as [number, number];
  const from = { last: rows - 1, mean: 0, cls: 0 }[pooling];
  const to = { last: rows, mean: rows, cls: 1 }[pooling];
  return Array.from({ length: width }, (_, j) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum += Number(data[i * width + j]);
    return sum / (to - from);
  });
}

/** Absolute: what the golden tests allow a hidden state, whose elements are of the order of 1. */
const tolerance = 1e-4;

function worst(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Math.max(...Array.from(a, (x, i) => Math.abs(x - b[i]!)));
}

function copyOf(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `ocelli-embed-${name}-`));
  cpSync(join(fixtureModels, name), folder, { recursive: true });
  return folder;
}

function edit(folder: string, change: (config: Record<string, unknown>) => void): void {
  const file = join(folder, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  change(config);
  writeFileSync(file, JSON.stringify(config));
}

test.each(['llama', 'qwen3', 'gemma2', 'llava-1.5'])('%s: pooled hidden states of the reference', async (name) => {
  const golden = readGoldenFolder(join(fixtureModels, name));
  const pictures = name === 'llava-1.5' ? { limitMmPerPrompt: { image: 2 } } : {};
  const llm = await LLM.load(golden.path, { dtype: 'float32', ...pictures });
  const cases = golden.cases.filter((c) => golden.tensors(c.name).has('hidden.final'));
  expect(cases.length).toBeGreaterThan(0);
  const prompts = cases.map((c) => ({
    promptTokenIds: c.prompt_token_ids,
    ...(c.images.length > 0 ? { multiModalData: { image: c.images.map(golden.picture) } } : {}),
  }));
  for (const pooling of modes) {
    const found = await llm.embed(prompts, { pooling, normalize: false });
    for (const [i, c] of cases.entries()) {
      expect(found[i]!.promptTokenIds).toEqual(c.input_ids);
      expect(worst(found[i]!.embedding, pooled(golden, c.name, pooling))).toBeLessThan(tolerance);
    }
  }
  // Of length 1, and in the same direction; asked for or not.
  const [unit, plain, same] = await Promise.all(
    [{ normalize: true }, { normalize: false }, {}].map((o) => llm.embed(prompts[0]!, { pooling: 'last', ...o })),
  );
  const length = Math.hypot(...plain![0]!.embedding);
  expect(
    worst(
      unit![0]!.embedding,
      plain![0]!.embedding.map((x) => x / length),
    ),
  ).toBeLessThan(2 ** -23);
  expect(same).toEqual(unit);
  await llm.dispose();
});

const narrow = { hidden_size: 256, intermediate_size: 704, num_attention_heads: 4, num_key_value_heads: 2 };

test('the same bits alone, among others, in chunks, behind cached prefixes and after preemption', async () => {
  const asks = Array.from({ length: 6 }, (_, i): [Prompt, EmbedOptions] => [
    randomIds(i % 3, 30 + 55 * i),
    { pooling: modes[i % 3]!, normalize: false },
  ]);
  let expected: unknown;
  for (const options of [
    { enablePrefixCaching: false },
    { maxNumBatchedTokens: 37 },
    { kvCacheMemoryBytes: 1024 * 16 * 26 },
  ]) {
    const llm = await realWidth({ maxNumSeqs: 4, maxModelLen: 512, ...options }, narrow);
    for (let round = 0; round < 2; round++) {
      const generated = llm.generate(randomIds(9, 40), { maxTokens: 40, ignoreEos: true });
      const found = await Promise.all(asks.map(([prompt, o]) => llm.embed(prompt, o)));
      expected ??= found;
      expect(found).toEqual(expected);
      await generated;
    }
    expect(llm.stats()).toMatchObject({ running: 0, waiting: 0, kvBlocksUsed: 0 });
    await llm.dispose();
  }
});

test('a prompt with a picture differs by its picture; aborts and refusals leave nothing behind', async () => {
  const llm = await LLM.load('demo');
  const ask = (name: string) => question('Describe the image.', picture(name));
  const [a, b, again] = await llm.embed([ask('red-ring'), ask('four-shapes'), ask('red-ring')], { pooling: 'mean' });
  expect(a).toEqual(again);
  expect(worst(a!.embedding, b!.embedding)).toBeGreaterThan(1e-3);
  const reason = new Error('enough');
  await expect(llm.embed('x', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  await expect(llm.embed(['x', [1, 99999]])).rejects.toMatchObject({ code: 'ERR_TOKEN_ID', details: { index: 1 } });
  expect(await codeOf(llm.embed([]))).toBe('ERR_PROMPT_EMPTY');
  expect(await codeOf(llm.embed('x', { normalise: true } as never))).toBe('ERR_UNKNOWN_OPTION');
  expect(llm.stats()).toMatchObject({ running: 0, waiting: 0, kvBlocksUsed: 0 });
  await llm.dispose();
});

test('a base model is loaded without its head, and pools as its modules.json says', async () => {
  const golden = readGoldenFolder(join(fixtureModels, 'llama'));
  const folder = copyOf('llama');
  edit(folder, (config) => (config.architectures = ['LlamaModel']));
  const modules = (pool: Record<string, boolean>, ...more: string[]): void => {
    const types = ['Transformer', 'Pooling', ...more];
    writeFileSync(
      join(folder, 'modules.json'),
      JSON.stringify(types.map((t, idx) => ({ idx, path: `${idx}_${t}`, type: `sentence_transformers.models.${t}` }))),
    );
    mkdirSync(join(folder, '1_Pooling'), { recursive: true });
    writeFileSync(join(folder, '1_Pooling', 'config.json'), JSON.stringify({ word_embedding_dimension: 64, ...pool }));
  };
  const llm = await LLM.load(folder, { dtype: 'float32' });
  const prompt = golden.cases.find((c) => c.name === 'short')!.prompt_token_ids;
  modules({ pooling_mode_cls_token: false, pooling_mode_mean_tokens: true });
  const [mean] = await llm.embed(prompt);
  expect(worst(mean!.embedding, pooled(golden, 'short', 'mean'))).toBeLessThan(tolerance);
  modules({ pooling_mode_lasttoken: true }, 'Normalize');
  const [last] = await llm.embed(prompt);
  const reference = pooled(golden, 'short', 'last');
  expect(
    worst(
      last!.embedding,
      reference.map((x) => x / Math.hypot(...reference)),
    ),
  ).toBeLessThan(tolerance);
  for (const [pool, ...more] of [
    [{ pooling_mode_max_tokens: true }],
    [{ pooling_mode_cls_token: true, pooling_mode_mean_tokens: true }],
    [{ pooling_mode_mean_tokens: true }, 'Dense'],
  ] as [Record<string, boolean>, ...string[]][]) {
    modules(pool, ...more);
    expect(await codeOf(llm.embed(prompt))).toBe('ERR_NO_EMBEDDINGS');
    expect((await llm.embed(prompt, { pooling: 'last', normalize: true }))[0]).toEqual(last);
  }
  expect(await codeOf(llm.generate(prompt))).toBe('ERR_NO_LOGITS');
  await llm.dispose();
});
