import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  LLM,
  SamplingParams,
  Tensor,
  estimateMemory,
  type EngineOptions,
  type SamplingOptions,
} from '../../dist/index';
import { loadNative } from '../../dist/native';
import { root } from '../models/fixtures';
import { codeOf, picture, question, realWidth, samples } from './models';

describe('what is wrong with a request is found before it runs, and fails it alone', () => {
  let llm: LLM;
  beforeAll(async () => {
    llm = await LLM.load('demo');
  });
  afterAll(async () => {
    // Whatever was refused, the next request is served.
    const next = await llm.generate(question('How many objects are there?'), { temperature: 0, maxTokens: 9 });
    expect(next.outputs[0]!.text.trim()).toBe('Four.');
    expect(llm.stats()).toMatchObject({ running: 0, waiting: 0 });
    await llm.dispose();
  });

  const image = picture('red-ring');
  const broken = join(mkdtempSync(join(tmpdir(), 'ocelli-broken-')), 'broken.png');
  writeFileSync(broken, Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0]));

  test.each<[string, () => Promise<unknown>, string]>([
    ['no placeholder', () => llm.generate({ prompt: 'hello', multiModalData: { image } }), 'ERR_PLACEHOLDER_COUNT'],
    ['no picture', () => llm.generate('<image>'), 'ERR_PLACEHOLDER_COUNT'],
    [
      'more pictures',
      () => llm.generate({ prompt: '<image>', multiModalData: { image: [image, image] } }),
      'ERR_MM_LIMIT',
    ],
    ['unknown modality', () => llm.generate({ prompt: 'x', multiModalData: { smell: 1 } }), 'ERR_UNKNOWN_MODALITY'],
    ['no such file', () => llm.generate(question('?', join(samples, 'none.png'))), 'ERR_MEDIA_NOT_FOUND'],
    ['no picture at all', () => llm.generate(question('?', join(samples, 'samples.json'))), 'ERR_IMAGE_FORMAT'],
    ['a truncated picture', () => llm.generate(question('?', broken)), 'ERR_IMAGE_TRUNCATED'],
    [
      'a path in a message',
      () => llm.chat([{ role: 'user', content: [{ type: 'image', image }] }]),
      'ERR_MEDIA_NOT_ALLOWED',
    ],
    ['a URL', () => llm.generate(question('?', 'https://example.org/x.png')), 'ERR_MEDIA_NOT_ALLOWED'],
    [
      'embeddings too narrow',
      () =>
        llm.generate({
          prompt: '<image>',
          multiModalData: { image: new Tensor('float32', [4, 3], new Float32Array(12)) },
        }),
      'ERR_IMAGE_EMBEDS',
    ],
    [
      'embeddings with NaN',
      () =>
        llm.generate({
          prompt: '<image>',
          multiModalData: { image: new Tensor('float32', [4, 192], new Float32Array(768).fill(NaN)) },
        }),
      'ERR_MM_INPUTS',
    ],
    ['too long', () => llm.generate('x '.repeat(3000)), 'ERR_PROMPT_TOO_LONG'],
    ['empty ids', () => llm.generate({ promptTokenIds: [] }), 'ERR_PROMPT_EMPTY'],
    ['an empty list', () => llm.generate([]), 'ERR_PROMPT_EMPTY'],
    ['an id outside the vocabulary', () => llm.generate([1, 99999]), 'ERR_TOKEN_ID'],
    ['a negative id', () => llm.generate([1, -1]), 'ERR_PROMPT'],
    ['no prompt', () => llm.generate(undefined as never), 'ERR_PROMPT'],
    ['a misspelt prompt', () => llm.generate({ promt: 'x' } as never), 'ERR_UNKNOWN_OPTION'],
    ['no messages', () => llm.chat([]), 'ERR_MESSAGES'],
    ['an unknown part', () => llm.chat([{ role: 'user', content: [{ type: 'sound' } as never] }]), 'ERR_MESSAGES'],
    [
      'a template that loops',
      () =>
        llm.chat(
          [{ role: 'user', content: 'x' }],
          {},
          { chatTemplate: '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}' },
        ),
      'ERR_CHAT_TEMPLATE',
    ],
    ['an unknown request option', () => llm.generate('x', {}, { requestID: 'x' } as never), 'ERR_UNKNOWN_OPTION'],
    ['a bad priority', () => llm.generate('x', {}, { priority: 0.5 }), 'ERR_OPTION'],
    ['an unknown pooling', () => llm.embed('x', { pooling: 'max' as never }), 'ERR_OPTION'],
  ])('%s', async (_name, body, code) => {
    expect(await codeOf(body())).toBe(code);
  });

  test.each<[keyof SamplingOptions, unknown]>([
    ['n', 0],
    ['n', 65],
    ['temperature', -0.1],
    ['temperature', NaN],
    ['topP', 0],
    ['topP', 1.1],
    ['topK', 0],
    ['minP', 2],
    ['seed', 0.5],
    ['stop', ''],
    ['stop', new Array(17).fill('x')],
    ['stopTokenIds', [-1]],
    ['maxTokens', 0],
    ['minTokens', -1],
    ['logprobs', 21],
    ['promptLogprobs', -1],
    ['presencePenalty', 3],
    ['frequencyPenalty', -3],
    ['repetitionPenalty', 0],
    ['logitBias', { x: 1 }],
    ['logitBias', { 1: 101 }],
    ['allowedTokenIds', []],
    ['badWords', ['']],
    ['ignoreEos', 'yes'],
  ])('%s: %p', async (field, value) => {
    expect(() => new SamplingParams({ [field]: value })).toThrow(
      expect.objectContaining({ code: 'ERR_SAMPLING', details: { option: field } }),
    );
    expect(await codeOf(llm.generate('x', { [field]: value }))).toBe('ERR_SAMPLING');
  });

  test('fields that contradict each other, ids beyond the vocabulary, the nearest name', async () => {
    expect(await codeOf(llm.generate('x', { minTokens: 9, maxTokens: 8 }))).toBe('ERR_SAMPLING');
    expect(await codeOf(llm.generate('x', { stop: 'x', detokenize: false }))).toBe('ERR_SAMPLING');
    expect(await codeOf(llm.generate('x', { stopTokenIds: [512] }))).toBe('ERR_SAMPLING');
    await expect(llm.generate('x', { temprature: 1 } as never)).rejects.toMatchObject({
      code: 'ERR_UNKNOWN_OPTION',
      hint: "Did you mean 'temperature'?",
    });
  });

  test('an invalid prompt of a batch rejects it with its index, and nothing of it has run', async () => {
    const { promptTokens } = llm.stats();
    await expect(llm.generate(['a', 'b', '<image>', 'c'])).rejects.toMatchObject({
      code: 'ERR_PLACEHOLDER_COUNT',
      details: { index: 2 },
    });
    await expect(llm.generate([{ promptTokenIds: [1] }, { promptTokenIds: [1, 700] }])).rejects.toMatchObject({
      code: 'ERR_TOKEN_ID',
      details: { index: 1 },
    });
    expect(llm.stats().promptTokens).toBe(promptTokens);
  });

  test('a request id that is in flight', async () => {
    const first = llm.generate('x', { maxTokens: 4 }, { requestId: 'one' });
    expect(await codeOf(llm.generate('y', {}, { requestId: 'one' }))).toBe('ERR_REQUEST_ID');
    expect((await first).requestId).toBe('one');
    expect((await llm.generate('x', { maxTokens: 1 }, { requestId: 'one' })).finished).toBe(true);
  });
});

test('queues have limits', async () => {
  const llm = await LLM.load('demo', { maxNumSeqs: 1, maxNumQueuedReqs: 2, maxNumQueuedTokens: 100 });
  const flood = Array.from({ length: 8 }, (_, i) =>
    llm.generate(`USER: ${i} ASSISTANT:`, { maxTokens: 50, ignoreEos: true }),
  );
  const codes = (await Promise.allSettled(flood)).map((r) =>
    r.status === 'rejected' ? (r.reason as { code: string }).code : 'served',
  );
  expect(codes).toContain('ERR_QUEUE_FULL');
  expect(codes).toContain('served');
  expect(await codeOf(llm.generate('x '.repeat(101), { maxTokens: 1 }))).toBe('ERR_QUEUE_FULL');
  await llm.dispose();
});

describe('loading', () => {
  test.each<[string, EngineOptions, string]>([
    ['an unknown option', { maxModelLength: 5 } as never, 'ERR_UNKNOWN_OPTION'],
    ['a value out of range', { maxNumSeqs: 0 }, 'ERR_OPTION'],
    ['more than the model was trained for', { maxModelLen: 5000 }, 'ERR_OPTION'],
    ['no room for a prompt without chunks', { enableChunkedPrefill: false, maxNumBatchedTokens: 100 }, 'ERR_OPTION'],
    ['fewer rows than sequences', { maxNumBatchedTokens: 8 }, 'ERR_OPTION'],
    ['a cache smaller than a block', { kvCacheMemoryBytes: 100 }, 'ERR_MEMORY'],
    ['more weights than memory', { kvCacheMemoryBytes: 2 ** 50 }, 'ERR_MEMORY'],
  ])('%s', async (_name, options, code) => {
    expect(await codeOf(LLM.load('demo', options))).toBe(code);
  });

  test('a GPU that is not there: no CUDA part, no driver, or no such number', async () => {
    expect(await codeOf(LLM.load('demo', { device: 'cuda:999' }))).toMatch(/^ERR_(UNSUPPORTED|CUDA_DRIVER)$/);
  });

  test('a device library that is none', async () => {
    for (const path of ['/nowhere.so', join(root, 'package.json'), join(root, 'build/Release/ocelli.node')])
      expect(await codeOf(loadNative().openDevice(path, 0))).toBe('ERR_DEVICE_LIBRARY');
  });

  test('the error about memory has every term', async () => {
    await expect(LLM.load('demo', { kvCacheMemoryBytes: 1 })).rejects.toMatchObject({
      message: expect.stringMatching(/weights .*activations .*encoder .*encoder cache .*KV block/),
      details: { kvBlocks: 0, kvBytesPerBlock: expect.any(Number) },
    });
  });

  test('estimateMemory and the loaded plan agree', async () => {
    const options = { maxNumSeqs: 4, kvCacheMemoryBytes: 2 ** 22 };
    const llm = await LLM.load('demo', options);
    const { limit: _limit, ...plan } = llm.memoryPlan;
    expect(await estimateMemory('demo', options)).toMatchObject(plan);
    await llm.dispose();
  });

  test('a cache of int8 takes a byte a number and four a head, and gives the same answers however prompts are cut', async () => {
    const options = { dtype: 'float32', kvCacheDtype: 'int8', kvCacheMemoryBytes: 2 ** 22 } as const;
    const wide = await estimateMemory('demo', { ...options, kvCacheDtype: 'float32' });
    const ask = {
      prompt: 'USER: <image>\nDescribe the image. ASSISTANT:',
      multiModalData: { image: picture('red-ring') },
    };
    const answers: unknown[] = [];
    for (const more of [{}, { maxNumBatchedTokens: 16, maxNumSeqs: 2 }, { threads: 1 }]) {
      const llm = await LLM.load('demo', { ...options, ...more });
      // Heads of 32: 36 bytes instead of 128.
      expect(llm.memoryPlan.kvBytesPerToken / wide.kvBytesPerToken).toBeCloseTo(36 / 128, 12);
      const { outputs } = await llm.generate(ask, { temperature: 0, maxTokens: 30, logprobs: 2 });
      answers.push([outputs[0]!.text, outputs[0]!.logprobs]);
      await llm.dispose();
    }
    expect((answers[0] as [string])[0]).toMatch(/red/);
    expect(answers[1]).toEqual(answers[0]);
    expect(answers[2]).toEqual(answers[0]);
  });

  test('a request that can never fit the cache is refused', async () => {
    const llm = await LLM.load('demo', { kvCacheMemoryBytes: 24576 * 4 });
    expect(llm.memoryPlan.kvTokens).toBe(64);
    expect(await codeOf(llm.generate('USER: Hi ASSISTANT:', { maxTokens: 100 }))).toBe('ERR_KV_CACHE');
    expect((await llm.generate('USER: Hi ASSISTANT:', { maxTokens: 4 })).finished).toBe(true);
    await llm.dispose();
  });

  test('a text model takes no pictures', async () => {
    const llm = await realWidth(
      { maxModelLen: 64, maxNumSeqs: 1 },
      { hidden_size: 64, intermediate_size: 64, num_attention_heads: 2, num_key_value_heads: 1, vocab_size: 300 },
    );
    expect(await codeOf(llm.generate({ promptTokenIds: [1], multiModalData: { image: picture('red-ring') } }))).toBe(
      'ERR_MM_LIMIT',
    );
    expect(await codeOf(llm.generate('text'))).toBe('ERR_NO_TOKENIZER');
    expect(await codeOf(llm.chat([{ role: 'user', content: 'x' }]))).toBe('ERR_NO_TOKENIZER');
    expect((await llm.generate([1, 2, 3], { maxTokens: 2, ignoreEos: true })).outputs[0]!.tokenIds).toHaveLength(2);
    await llm.dispose();
  });
});
