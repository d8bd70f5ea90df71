/** Whatever a neighbour does wrong, those beside it have the bits that they have alone. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import {
  LLM,
  Tensor,
  type Prompt,
  type RequestOutput,
  type RequestStream,
  type SamplingOptions,
} from '../../dist/index';
import { loadNative, type EngineHandle } from '../../dist/native';
import { bitsOf, difference, type Bits } from '../determinism/bits';
import { root } from '../models/fixtures';
import { codeOf, picture, question } from './models';

const long = { maxTokens: 300, ignoreEos: true, logprobs: 2 };
const good: [Prompt, SamplingOptions][] = [
  [question('Describe the image.'), { ...long, temperature: 0 }],
  [question('How many objects are there?', picture('red-ring')), { ...long, temperature: 1.5, seed: 4, n: 2 }],
];
const short = { temperature: 0, maxTokens: 4, ignoreEos: true };
/** Bytes of one picture's features: 64 rows of 192 float32. */
const featureBytes = 64 * 192 * 4;
/** 60 blocks of 16 tokens, less than the longest request: the good ones, three times 24, preempt each other. */
const kvCacheMemoryBytes = 60 * 24576;

let llm: LLM;
let expected: Bits[];
beforeAll(async () => {
  llm = await LLM.load('demo', {
    maxNumSeqs: 6,
    maxNumQueuedReqs: 4,
    kvCacheMemoryBytes,
    encoderCacheBytes: 2 * featureBytes,
  });
  expected = [];
  for (const [prompt, params] of good) expected.push(bitsOf(await llm.generate(prompt, params)));
});
afterAll(() => llm.dispose());

async function settled(): Promise<void> {
  for (let i = 0; i < 400; i++) {
    const { running, waiting, kvBlocksUsed } = llm.stats();
    if (running + waiting + kvBlocksUsed === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`expected an idle engine: ${JSON.stringify(llm.stats())}`);
}

/** Runs `misdeed` while the good ones are in the middle of their answers. */
async function beside(misdeed: () => Promise<unknown>): Promise<void> {
  const streams = good.map(([prompt, params]) => llm.stream(prompt, params));
  const begun = streams.map((stream) => firstItem(stream));
  await Promise.all(begun);
  expect(llm.stats().running).toBeGreaterThan(0);
  await misdeed();
  const outputs: RequestOutput[] = await Promise.all(streams.map((stream) => stream.result));
  expect(outputs.map((output, i) => difference(expected[i]!, bitsOf(output)))).toEqual([undefined, undefined]);
  await settled();
}

async function firstItem(stream: RequestStream): Promise<void> {
  await stream[Symbol.asyncIterator]().next();
}

test('a queue that is full', async () => {
  await beside(async () => {
    const flood = Array.from({ length: 24 }, (_, i) => codeOf(llm.generate(`USER: ${i} ASSISTANT:`, short)));
    const codes = await Promise.allSettled(flood);
    expect(codes.map((r) => (r.status === 'fulfilled' ? r.value : 'served'))).toContain('ERR_QUEUE_FULL');
  });
});

test('a picture larger than the encoder cache, a prompt larger than the KV cache, an id in flight', async () => {
  await beside(async () => {
    const features = new Tensor('float32', [200, 192], new Float32Array(200 * 192).fill(0.01));
    const large = { prompt: 'USER: <image> ASSISTANT:', multiModalData: { image: features } };
    expect(await codeOf(llm.generate(large, short))).toBe('ERR_ENCODER_CACHE');
    expect(await codeOf(llm.generate('USER: x ASSISTANT:', { ...short, maxTokens: 1000 }))).toBe('ERR_KV_CACHE');
    const first = llm.generate('USER: x ASSISTANT:', short, { requestId: 'twice' });
    expect(await codeOf(llm.generate('USER: y ASSISTANT:', short, { requestId: 'twice' }))).toBe('ERR_REQUEST_ID');
    expect((await first).usage.completionTokens).toBe(4);
  });
});

test('aborts of ids that are unknown, over, and of outputs that there are none of', async () => {
  await beside(async () => {
    const over = llm.stream('USER: x ASSISTANT:', short);
    await over.result;
    over.abort();
    const { engine } = (llm as unknown as { client: { engine: EngineHandle } }).client;
    const native = loadNative();
    for (const id of [0, 1, 2 ** 31 - 1]) native.engineAbort(engine, id, id === 1 ? 0 : undefined);
    native.engineHold(engine, 2 ** 30, true);
  });
});

test('a loop that throws, an iterator that is left where it is', async () => {
  await beside(async () => {
    const thrown = async (): Promise<void> => {
      for await (const _ of llm.stream('USER: x ASSISTANT:', { ...short, maxTokens: 200 })) throw new Error('mine');
    };
    await expect(thrown()).rejects.toThrow('mine');
    const left = llm.stream('USER: x ASSISTANT:', { ...short, maxTokens: 40 });
    await firstItem(left);
    // Held by its own bound, and then aborted by nobody but its signal.
    const controller = new AbortController();
    const held = llm.stream(
      'USER: z ASSISTANT:',
      { ...short, maxTokens: 200 },
      { maxUnreadTokens: 2, signal: controller.signal },
    );
    await firstItem(held);
    controller.abort('enough');
    await expect(held.result).rejects.toBe('enough');
    expect((await left.result).usage.completionTokens).toBe(40);
  });
});

/** In a process of its own: what is thrown there reaches nobody but its uncaughtException handlers. */
test('callbacks that throw: a listener of a signal, a subscriber of a channel', () => {
  const script = `
    const { subscribe } = require('node:diagnostics_channel');
    const { LLM } = require(${JSON.stringify(join(root, 'dist', 'index.js'))});
    const { bitsOf, difference } = require(${JSON.stringify(join(root, 'out', 'test', 'determinism', 'bits.js'))});
    const thrown = [];
    process.on('uncaughtException', (e) => thrown.push(e.message));
    (async () => {
      const llm = await LLM.load('demo');
      const good = () => llm.stream(${JSON.stringify(good[0]![0])}, ${JSON.stringify(good[0]![1])});
      const alone = bitsOf(await good().result);
      const neighbour = good();
      await neighbour[Symbol.asyncIterator]().next();
      subscribe('ocelli:request:submit', () => { throw new Error('subscriber'); });
      const controller = new AbortController();
      controller.signal.addEventListener('abort', () => { throw new Error('listener'); });
      const stream = llm.stream('USER: x ASSISTANT:', { maxTokens: 200, ignoreEos: true }, { signal: controller.signal });
      await stream[Symbol.asyncIterator]().next();
      controller.abort('mine');
      const reason = await stream.result.catch((e) => e);
      const different = difference(alone, bitsOf(await neighbour.result)) ?? 'none';
      console.log(JSON.stringify({ thrown, reason, different }));
    })();`;
  const out = execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' });
  expect(JSON.parse(out)).toEqual({ thrown: ['subscriber', 'listener'], reason: 'mine', different: 'none' });
});

test('a worker that is terminated in the middle of its answer', async () => {
  const script = `
    const { parentPort } = require('node:worker_threads');
    const { LLM } = require(${JSON.stringify(join(root, 'dist', 'index.js'))});
    LLM.load('demo').then(async (llm) => {
      const stream = llm.stream('USER: What is it? ASSISTANT:', { maxTokens: 900, ignoreEos: true, n: 2 });
      for await (const _ of stream) parentPort.postMessage('token');
    });`;
  const workers = [0, 1].map(() => new Worker(script, { eval: true }));
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
  await beside(() => Promise.all(workers.map((worker) => worker.terminate())));
});
