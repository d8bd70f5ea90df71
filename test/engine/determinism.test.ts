/** The same request has the same bits whatever else runs: log-probabilities are compared as numbers, not within a tolerance. */
import { LLM, type EngineOptions, type Prompt, type RequestOutput, type SamplingOptions } from '../../dist/index';
import { picture, question, randomIds, realWidth } from './models';

type Ask = [Prompt, SamplingOptions];

/** Token ids and the bits of every log-probability. */
function bits(output: RequestOutput): unknown {
  return output.outputs.map((o) => [
    o.tokenIds,
    o.logprobs?.map((entries) => [...entries].map(([id, { logprob }]) => [id, logprob])),
  ]);
}

async function alone(llm: LLM, asks: readonly Ask[]): Promise<unknown[]> {
  const results = [];
  for (const [prompt, params] of asks) results.push(bits(await llm.generate(prompt, params)));
  return results;
}

async function together(llm: LLM, asks: readonly Ask[]): Promise<unknown[]> {
  const outputs = await Promise.all(
    asks.map(async ([prompt, params], i) => {
      await new Promise((resolve) => setTimeout(resolve, 7 * i));
      return llm.generate(prompt, params);
    }),
  );
  return outputs.map(bits);
}

async function compare(load: (options: EngineOptions) => Promise<LLM>, asks: readonly Ask[]): Promise<void> {
  let expected: unknown[] | undefined;
  const modes: [EngineOptions, typeof alone][] = [
    [{ threads: 1, enablePrefixCaching: false }, alone],
    [{ threads: 2 }, together],
    [{ threads: 1, maxNumBatchedTokens: 48, maxNumSeqs: 8 }, together],
  ];
  for (const [options, ask] of modes) {
    const llm = await load(options);
    const found = await ask(llm, asks);
    // A second round finds prefixes and features cached.
    const again = await ask(llm, asks);
    await llm.dispose();
    expected ??= found;
    expect(found).toEqual(expected);
    expect(again).toEqual(expected);
  }
}

test('the built-in model: alone, among others, chunked, cached, with one and two threads, preempted', async () => {
  const pictures = ['four-shapes', 'red-ring', 'orange-cross', 'yellow-heart'].map(picture);
  const asks = Array.from({ length: 8 }, (_, i): Ask => {
    const sampled = i % 2 ? { temperature: 0.9, topP: 0.95, seed: i } : { temperature: 0 };
    return [
      question(i % 3 ? 'Describe the image.' : 'How many objects are there?', pictures[i % 4]!),
      { ...sampled, maxTokens: 24, logprobs: 3, ignoreEos: true },
    ];
  });
  await compare((options) => LLM.load('demo', options), asks);
  // Room for two prompts but not for two answers: the later ones are preempted again and again. Only the second round has its
  // pictures decoded, so that all come at once.
  const burst = async (llm: LLM): Promise<unknown[]> =>
    (await Promise.all(asks.map(([prompt, params]) => llm.generate(prompt, params)))).map(bits);
  let expected: unknown[] | undefined;
  for (const options of [{}, { kvCacheMemoryBytes: 24576 * 11 }]) {
    const llm = await LLM.load('demo', options);
    const found = [await burst(llm), await burst(llm)];
    const { preemptions } = llm.stats();
    await llm.dispose();
    expected ??= found;
    expect(found).toEqual(expected);
    if ('kvCacheMemoryBytes' in options) expect(preemptions).toBeGreaterThan(0);
  }
});

test('random weights of real width: long prompts cross the tiles of attention and of the products', async () => {
  const asks = [700, 3, 257, 31, 256].map((length, i): Ask => [
    randomIds(i, length),
    { temperature: i % 2, seed: 5, maxTokens: 6, logprobs: 2, ignoreEos: true },
  ]);
  await compare((options) => realWidth({ maxModelLen: 1024, ...options }), asks);
}, 240_000);

test('guessed tokens change nothing but the time: greedy, sampled, with penalties, beside others', async () => {
  // Three tokens to choose from: answers repeat themselves often, but not always.
  const few = { allowedTokenIds: [11, 12, 13], maxTokens: 60, logprobs: 1, ignoreEos: true, temperature: 0 };
  const kinds = [
    {},
    { temperature: 0.01, seed: 1 },
    { repetitionPenalty: 1.05 },
    { frequencyPenalty: 0.01, minTokens: 30 },
  ];
  const asks = kinds.map((kind, i): Ask => [randomIds(i, 40 + i), { ...few, ...kind }]);
  let expected: unknown[] | undefined;
  for (const [numSpeculativeTokens, ask] of [
    [0, alone],
    [4, alone],
    [7, together],
  ] as const) {
    const llm = await realWidth({ maxModelLen: 256, numSpeculativeTokens, enablePrefixCaching: false });
    const found = await ask(llm, asks);
    const { draftTokens, acceptedTokens, steps } = llm.stats();
    await llm.dispose();
    expected ??= found;
    expect(found).toEqual(expected);
    if (numSpeculativeTokens === 0) expect(draftTokens).toBe(0);
    else {
      expect(acceptedTokens).toBeGreaterThan(20);
      expect(draftTokens).toBeGreaterThan(acceptedTokens);
      expect(steps).toBeLessThan(4 * 60 - 20);
    }
  }
}, 240_000);
