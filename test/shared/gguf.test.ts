/** SmolLM2 as llama.cpp quantised it, against transformers on the same dequantised weights; stored tokenizers by way of a GGUF. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GgufFile } from '../../dist/gguf/file';
import { tokenizerFiles } from '../../dist/gguf/tokenizer';
import { LLM } from '../../dist/index';
import { Tokenizer } from '../../dist/tokenizer';
import { convertText, convertVision, tokenizerEntries } from '../gguf/convert';
import { writeGguf } from '../gguf/writer';
import { shared } from '../media/pictures';
import { unexpectedFailures } from '../goldens/known-misses';
import { runFolder } from '../goldens/run';

const golden = JSON.parse(readFileSync(join(shared, 'golden/smollm2.json'), 'utf8')) as {
  cases: {
    name: string;
    prompt: string;
    messages?: { role: string; content: string }[];
    prompt_token_ids: number[];
    greedy: { token_ids: number[]; logprobs: number[]; top_logprobs: [number, number][][] };
  }[];
  tokenization: { text: string; ids: number[]; decoded: string }[];
};

const folder = mkdtempSync(join(tmpdir(), 'ocelli-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('SmolLM2-135M-Instruct.Q4_1.gguf', () => {
  let llm: LLM;
  beforeAll(async () => {
    const file = join(shared, 'models/SmolLM2-135M-Instruct.Q4_1.gguf');
    llm = await LLM.load(file, { dtype: 'float32', maxModelLen: 1024 });
  });
  afterAll(() => llm.dispose());

  test('texts, digit by digit', () => {
    expect(golden.tokenization.length).toBeGreaterThan(30);
    for (const { text, ids, decoded } of golden.tokenization) {
      expect({ text, ids: llm.tokenizer.encode(text) }).toEqual({ text, ids });
      expect(llm.tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(decoded);
    }
  });

  test.each(golden.cases)('$name: ids, greedy tokens, log-probabilities', async (c) => {
    if (c.messages) expect(await llm.tokenizer.applyChatTemplate(c.messages)).toBe(c.prompt);
    expect(llm.tokenizer.encode(c.prompt)).toEqual(c.prompt_token_ids);
    const { token_ids: tokens, logprobs, top_logprobs: tops } = c.greedy;
    const sampling = { temperature: 0, maxTokens: tokens.length, ignoreEos: true, logprobs: 5 };
    const { outputs } = await llm.generate({ promptTokenIds: c.prompt_token_ids }, sampling);
    expect(outputs[0]!.tokenIds).toEqual(tokens);
    let worst = 0;
    tokens.forEach((token, step) => {
      const ours = outputs[0]!.logprobs![step]!;
      for (const [id, logprob] of [[token, logprobs[step]!] as const, ...tops[step]!]) {
        // The fifth may trade places with a sixth that is as likely.
        const found = ours.get(id);
        if (found) worst = Math.max(worst, Math.abs(found.logprob - logprob));
        else expect(logprob).toBeCloseTo(Math.min(...[...ours.values()].map((o) => o.logprob)), 3);
      }
    });
    // Stored to 5 digits; float32 sums of 30 layers in another order move a log-probability by 3e-5.
    expect(worst).toBeLessThan(2e-4);
  });
});

/** A GGUF cannot say that only a text's first piece begins with a space: behind a special token it has one. */
const unsayable = (name: string, what: string): boolean => name === 'mistral' && what === 'chat';

test.each([
  ['llama', undefined],
  ['llama3-rope', 'llama-bpe'],
  ['mistral', undefined],
  ['qwen2', 'qwen2'],
  ['qwen3', 'qwen2'],
  ['smollm2', 'smollm'],
  ['phi3', undefined],
  ['gemma2', undefined],
  ['gemma3', undefined],
])('%s as a GGUF file', async (name, pre) => {
  const source = join(shared, 'golden/models', name);
  const file = convertText(source, join(folder, `${name}.gguf`), pre === undefined ? {} : { pre });
  // One text of Gemma 3's is too few steps for a share of flips.
  for (const dtype of name === 'gemma3' ? (['float32'] as const) : (['float32', 'bfloat16'] as const)) {
    const setting = { backend: 'cpu', dtype, threads: 2 };
    const report = await runFolder(source, setting, file, (c) => c.images.length === 0 && !unsayable(name, c.name));
    expect(report.skipped).toBeUndefined();
    expect(report.cases.length).toBeGreaterThan(0);
    expect(unexpectedFailures(report)).toEqual([]);
  }
});

test.each(['llava-1.5', 'llava-next-llama'])('%s as two GGUF files', async (name) => {
  const source = join(shared, 'golden/models', name);
  const place = join(folder, name);
  mkdirSync(place);
  const file = convertText(source, join(place, 'text.gguf'));
  convertVision(source, join(place, 'mmproj.gguf'), 'cut');
  const report = await runFolder(source, { backend: 'cpu', dtype: 'float32', threads: 2 }, file);
  expect(report.skipped).toBeUndefined();
  expect(unexpectedFailures(report)).toEqual([]);
});

/** Converters lose what the format has no place for: mistral_v1's normalizer is SentencePiece's own, the others' rules have names. */
test.each([
  ['mistral_v1', 'default'],
  ['smollm2', 'smollm'],
  ['qwen2', 'qwen2'],
  ['llama3_style', 'llama-bpe'],
])("the tokenizer %s by way of a GGUF's %s", async (name, pre) => {
  const source = join(shared, 'golden/tokenizers', name);
  const { cases } = JSON.parse(readFileSync(`${source}.json`, 'utf8')) as { cases: { text?: string; ids: number[] }[] };
  const file = writeGguf(join(folder, `${name}.gguf`), { metadata: tokenizerEntries(source, pre) });
  const { tokenizer: json, config } = tokenizerFiles(await GgufFile.open(file), { image: false });
  const tokenizer = await Tokenizer.load({
    path: file,
    json: (n) => Promise.resolve({ 'tokenizer.json': json, 'tokenizer_config.json': config }[n]),
    text: () => Promise.resolve(undefined),
  });
  expect(cases.length).toBeGreaterThan(100);
  for (const { text, ids } of cases) {
    if (text === undefined) continue;
    expect({ text, ids: tokenizer.encode(text, { addSpecialTokens: false }) }).toEqual({ text, ids });
  }
});
