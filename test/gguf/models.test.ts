/** Golden folders as GGUF files: what the folder's numbers are held to, the file's are. */
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ModelConfig } from '../../dist/config';
import { estimateMemory, LLM } from '../../dist/index';
import { Tokenizer } from '../../dist/tokenizer';
import { runFolder } from '../goldens/run';
import { fixtureModels } from '../models/fixtures';
import { convertText, convertVision } from './convert';
import { writeGguf } from './writer';

const folder = mkdtempSync(join(tmpdir(), 'ocelli-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));
const llama = join(fixtureModels, 'llama');
const llava = join(fixtureModels, 'llava-1.5');

const settings = ['ref', 'cpu'].flatMap((backend) =>
  (['float32', 'bfloat16'] as const).map((dtype) => ({ backend, dtype, threads: 2 })),
);

const fresh = (name: string): string => {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  return path;
};

describe('a Llama', () => {
  const file = join(fresh('llama'), 'llama.gguf');
  beforeAll(() => convertText(llama, file));

  test.each(settings)('meets its goldens on $backend in $dtype', async (setting) => {
    const report = await runFolder(llama, setting, file);
    expect(report.skipped).toBeUndefined();
    expect(report.cases.length).toBeGreaterThan(0);
    expect(report.cases.filter((c) => !c.ok)).toEqual([]);
    expect(report.failures).toEqual([]);
  });

  test('has the configuration of its folder', async () => {
    const [ours, theirs] = await Promise.all([ModelConfig.load(file), ModelConfig.load(llama)]);
    const fields = ({ hfConfig }: ModelConfig): object =>
      Object.fromEntries(Object.entries(hfConfig).filter(([name]) => name !== 'use_cache'));
    // The file has the norms' epsilon as float32.
    const { rms_norm_eps: epsilon } = theirs.hfConfig;
    expect(fields(ours)).toEqual({
      ...fields(theirs),
      rms_norm_eps: Math.fround(epsilon as number),
      sliding_window: null,
      torch_dtype: 'bfloat16',
    });
    expect(ours.generationConfig.eosTokenIds).toEqual(theirs.generationConfig.eosTokenIds);
    expect([ours.dtype, ours.maxModelLen]).toEqual([theirs.dtype, theirs.maxModelLen]);
  });

  test('generates through LLM.load as its folder does', async () => {
    const answers = [];
    for (const model of [file, llama]) {
      const llm = await LLM.load(model, { dtype: 'float32', maxModelLen: 128 });
      const { outputs } = await llm.generate('Once upon a time', { temperature: 0, maxTokens: 12, ignoreEos: true });
      answers.push(outputs[0]!.tokenIds);
      await llm.dispose();
    }
    expect(answers[0]).toEqual(answers[1]);
  });

  test("its tokenizer is its folder's", async () => {
    const [ours, theirs] = [await Tokenizer.load(file), await Tokenizer.load(llama)];
    for (const text of ['', ' ', 'Hello  world', 'naïve 日本 🙂\n\t', '</s> and <s>', 'a▁b']) {
      expect(ours.encode(text)).toEqual(theirs.encode(text));
      const ids = theirs.encode(text);
      expect(ours.decode(ids)).toBe(theirs.decode(ids));
    }
    expect([ours.bosTokenId, ours.eosTokenId]).toEqual([theirs.bosTokenId, theirs.eosTokenId]);
  });
});

/** Fused weights and LongRoPE's two lists; norms with the 1 in them, four a layer, caps, every other layer with a window. */
test.each(['phi3', 'gemma2'])('%s meets its goldens', async (name) => {
  const source = join(fixtureModels, name);
  const file = convertText(source, join(fresh(name), `${name}.gguf`));
  for (const setting of settings) {
    const report = await runFolder(source, setting, file);
    expect(report.skipped).toBeUndefined();
    expect(report.cases.filter((c) => !c.ok)).toEqual([]);
    expect(report.failures).toEqual([]);
  }
});

describe('a LLaVA', () => {
  const paths = { cut: fresh('cut'), whole: fresh('whole') };
  beforeAll(() => {
    for (const generation of ['cut', 'whole'] as const) {
      convertText(llava, join(paths[generation], 'text.gguf'));
      convertVision(llava, join(paths[generation], `mmproj-${generation}.gguf`), generation);
    }
  });

  test.each(settings)('of two files meets its goldens on $backend in $dtype', async (setting) => {
    const report = await runFolder(llava, setting, join(paths.cut, 'text.gguf'));
    expect(report.cases.filter((c) => !c.ok)).toEqual([]);
    expect(report.failures).toEqual([]);
    expect(report.cases.some((c) => c.name === 'one_image')).toBe(true);
  });

  test('with its whole tower takes features one block before the end', async () => {
    const report = await runFolder(llava, settings[0]!, join(paths.whole, 'text.gguf'));
    expect(report.cases.filter((c) => !c.ok)).toEqual([]);
  });

  test('with grids and a row that ends lines is LLaVA-NeXT', async () => {
    const source = join(fixtureModels, 'llava-next-mistral');
    const text = convertText(source, join(fresh('next'), 'text.gguf'));
    convertVision(source, join(folder, 'next', 'mmproj.gguf'), 'cut');
    for (const setting of settings) {
      const report = await runFolder(source, setting, text);
      expect(report.skipped).toBeUndefined();
      expect(report.cases).toHaveLength(2);
      // A GGUF cannot say that only a text's first piece begins with a space, as this Mistral's do.
      const failures = report.cases.flatMap((c) => c.failures).filter((f) => f.what !== 'prompt_token_ids');
      expect([...failures, ...report.failures]).toEqual([]);
    }
  });

  test('without its projector is a text model', async () => {
    const config = await ModelConfig.load(join(paths.cut, 'text.gguf'), { mmproj: false });
    expect(config.architecture).toBe('LlamaForCausalLM');
  });

  test('names its projector where two fit', async () => {
    const text = join(fresh('two'), 'text.gguf');
    cpSync(join(paths.cut, 'text.gguf'), text);
    for (const name of ['a-mmproj.gguf', 'b-mmproj.gguf'])
      cpSync(join(paths.cut, 'mmproj-cut.gguf'), join(folder, 'two', name));
    await expect(ModelConfig.load(text)).rejects.toMatchObject({ code: 'ERR_MODEL_FORMAT' });
    const config = await ModelConfig.load(text, { mmproj: join(folder, 'two', 'b-mmproj.gguf') });
    expect(config.architecture).toBe('LlavaForConditionalGeneration');
  });

  test('refuses the projector of another width', async () => {
    const other = join(fresh('other'), 'mmproj.gguf');
    writeGguf(other, {
      metadata: [['general.architecture', 'str', 'clip']],
      tensors: [{ name: 'mm.2.weight', shape: [32, 32], type: 'f32', data: new Uint8Array(4096) }],
    });
    await expect(ModelConfig.load(join(paths.cut, 'text.gguf'), { mmproj: other })).rejects.toMatchObject({
      code: 'ERR_MODEL_FORMAT',
      message: expect.stringContaining('32') as string,
    });
    // A neighbour that does not fit is somebody else's.
    const text = join(folder, 'other', 'text.gguf');
    cpSync(join(paths.cut, 'text.gguf'), text);
    expect((await ModelConfig.load(text)).architecture).toBe('LlamaForCausalLM');
  });
});

test('the plan counts a quantised table, which cannot stay in the mapping', async () => {
  const plain = join(folder, 'llama', 'llama.gguf');
  // llama.gguf has a bf16 table: it stays mapped in bf16.
  const plan = await estimateMemory(plain, { dtype: 'bfloat16', maxModelLen: 64 });
  const llm = await LLM.load(plain, { dtype: 'bfloat16', maxModelLen: 64 });
  expect(llm.memoryPlan.weights).toBe(plan.weights);
  await llm.dispose();
});

describe('metadata that does not suffice', () => {
  const file = join(folder, 'bad.gguf');
  const f32 = (shape: number[]) => new Uint8Array(4 * shape.reduce((a, b) => a * b, 1));
  const table = { name: 'token_embd.weight', shape: [3, 4], type: 'f32', data: f32([3, 4]) } as const;
  const numbers = {
    block_count: 1,
    context_length: 16,
    embedding_length: 4,
    feed_forward_length: 4,
    'attention.head_count': 1,
    'attention.layer_norm_rms_epsilon': 1e-5,
  };
  const metadata = (change: Record<string, unknown> = {}) => {
    const all: Record<string, unknown> = {
      'general.architecture': 'llama',
      ...Object.fromEntries(Object.entries(numbers).map(([k, v]) => [`llama.${k}`, v])),
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'gpt-2',
      'tokenizer.ggml.tokens': ['a', 'b', 'ab'],
      'tokenizer.ggml.merges': ['a b'],
      ...change,
    };
    return Object.entries(all)
      .filter(([, v]) => v !== undefined)
      .map(([k, v]) => {
        const type =
          typeof (Array.isArray(v) ? (v as unknown[])[0] : v) === 'string'
            ? 'str'
            : k.includes('epsilon')
              ? 'f32'
              : 'u32';
        return [k, type, v] as never;
      });
  };
  const load = (change: Record<string, unknown>): Promise<ModelConfig> =>
    ModelConfig.load(writeGguf(file, { metadata: metadata(change), tensors: [table] }));

  test('is enough as it is', async () => {
    const config = await load({});
    expect(config.hfConfig).toMatchObject({ vocab_size: 3, tie_word_embeddings: true, rope_theta: 10000 });
    const tokenizer = await Tokenizer.load(config.source);
    expect(tokenizer.encode('abba')).toEqual([2, 1, 0]);
  });

  const asGemma = (name: string, blocks: number, change: Record<string, unknown> = {}): Promise<ModelConfig> => {
    const heads = { 'attention.head_count': 2, 'attention.key_length': 16, block_count: blocks };
    const all = { ...numbers, ...heads, ...change };
    return load({
      'general.architecture': name,
      ...Object.fromEntries(Object.entries(all).map(([k, v]) => [`${name}.${k}`, v])),
    });
  };

  test('what files of Gemma leave to their reader', async () => {
    const of = async (...given: Parameters<typeof asGemma>) => (await asGemma(...given)).hfConfig;
    expect(await of('gemma2', 26)).toMatchObject({
      norm_offset: 0,
      query_pre_attn_scalar: 16,
      sliding_window: 4096,
      sliding_window_pattern: 2,
      attn_logit_softcapping: 50,
      final_logit_softcapping: 30,
    });
    // Scores of the largest ones go by the width, 4, over the heads.
    expect(await of('gemma2', 46)).toMatchObject({ query_pre_attn_scalar: 2 });
    expect(await of('gemma3', 62)).toMatchObject({ query_pre_attn_scalar: 2 });
    expect(await of('gemma3', 26, { 'attention.sliding_window': 512 })).toMatchObject({
      model_type: 'gemma3_text',
      query_pre_attn_scalar: 16,
      sliding_window: 512,
      sliding_window_pattern: 6,
      rope_local_base_freq: 10000,
      final_logit_softcapping: null,
    });
    // No window: all layers see everything.
    expect(await of('gemma3', 26)).toMatchObject({ sliding_window_pattern: 1 });
    expect(await of('gemma', 18)).toMatchObject({ norm_offset: 0, model_type: 'gemma' });
  });

  test('YaRN as metadata', async () => {
    const config = await load({
      'llama.rope.scaling.type': 'yarn',
      'llama.rope.scaling.factor': 4,
      'llama.rope.scaling.original_context_length': 16,
      'llama.rope.scaling.yarn_beta_fast': 16,
    });
    expect(config.hfConfig.rope_scaling).toMatchObject({
      rope_type: 'yarn',
      factor: 4,
      original_max_position_embeddings: 16,
      beta_fast: 16,
    });
    expect(config.maxModelLen).toBe(64);
  });

  test('an unknown architecture is told the nearest', async () => {
    await expect(load({ 'general.architecture': 'gemma3n' })).rejects.toMatchObject({
      code: 'ERR_UNKNOWN_ARCHITECTURE',
      hint: expect.stringContaining('gemma3') as string,
      details: { nearest: 'gemma3' },
    });
  });

  test.each<[string, Record<string, unknown>, string]>([
    ['no architecture', { 'general.architecture': undefined }, 'ERR_CONFIG'],
    ['an architecture of no class', { 'general.architecture': 'mamba' }, 'ERR_UNKNOWN_ARCHITECTURE'],
    ["a projector's file", { 'general.architecture': 'clip' }, 'ERR_UNKNOWN_ARCHITECTURE'],
    ['no width', { 'llama.embedding_length': undefined }, 'ERR_CONFIG'],
    ['a width that is a string', { 'llama.embedding_length': 'wide' }, 'ERR_CONFIG'],
    ['heads that do not divide it', { 'llama.attention.head_count': 3 }, 'ERR_CONFIG'],
    ['experts', { 'llama.expert_count': 8 }, 'ERR_CONFIG'],
    ['a tokenizer of no kind', { 'tokenizer.ggml.model': 'rwkv' }, 'ERR_TOKENIZER'],
    ['a rule of no name', { 'tokenizer.ggml.pre': 'nobody' }, 'ERR_TOKENIZER'],
    ['no merges', { 'tokenizer.ggml.merges': undefined }, 'ERR_CONFIG'],
  ])('%s', async (_what, change, code) => {
    await expect(load(change)).rejects.toMatchObject({ code });
  });

  test('a file that is no GGUF', async () => {
    await expect(ModelConfig.load(join(llama, 'config.json'))).rejects.toMatchObject({ code: 'ERR_MODEL_FORMAT' });
  });
});
