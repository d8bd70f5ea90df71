import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { LLM } from '../../dist/index';
import { root } from '../models/fixtures';
import { codeOf, picture, question } from './models';

const endless = { temperature: 0, maxTokens: 900, ignoreEos: true };

describe('abort', () => {
  let llm: LLM;
  beforeAll(async () => {
    llm = await LLM.load('demo');
  });
  afterAll(() => llm.dispose());
  const idle = async (): Promise<void> => {
    for (let i = 0; i < 400; i++) {
      const { running, waiting, kvBlocksUsed } = llm.stats();
      if (running + waiting + kvBlocksUsed === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error(`expected an idle engine: ${JSON.stringify(llm.stats())}`);
  };

  test('by signal: rejects with its reason, before, during and after', async () => {
    const reason = { mine: true };
    await expect(llm.generate('x', endless, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const running = llm.generate(question('Describe the image.'), endless, { signal: controller.signal });
    setTimeout(() => controller.abort(reason), 30);
    await expect(running).rejects.toBe(reason);
    const late = new AbortController();
    const done = await llm.generate('x', { maxTokens: 1 }, { signal: late.signal });
    late.abort();
    expect(done.finished).toBe(true);
    await expect(llm.generate(['a', 'b'], endless, { signal: AbortSignal.timeout(30) })).rejects.toMatchObject({
      name: 'TimeoutError',
    });
    await idle();
  });

  test('by stream.abort(): ends normally, the last item says so', async () => {
    const stream = llm.stream(question('Describe the image.'), endless);
    const reasons = [];
    for await (const item of stream) {
      reasons.push(item.outputs[0]!.finishReason);
      if (reasons.length === 3) stream.abort();
    }
    expect(reasons.at(-1)).toBe('abort');
    expect((await stream.result).outputs[0]!.finishReason).toBe('abort');
    const before = llm.stream('x', endless);
    before.abort();
    expect((await before.result).outputs[0]).toMatchObject({ finishReason: 'abort', text: '' });
    await idle();
  });

  test('by leaving the loop, and by await using', async () => {
    const left = llm.stream('x', endless);
    for await (const _ of left) break;
    expect((await left.result).outputs[0]!.finishReason).toBe('abort');
    const disposed = llm.stream('x', endless);
    await disposed[Symbol.asyncDispose]();
    expect((await disposed.result).outputs[0]!.finishReason).toBe('abort');
    await idle();
  });

  test('at random moments leaves nothing behind', async () => {
    let state = 1;
    const random = (n: number): number => (state = (state * 48271) % 2147483647) % n;
    await Promise.all(
      Array.from({ length: 60 }, async () => {
        const stream = llm.stream(question('Describe the image.'), { ...endless, n: 1 + random(3), temperature: 1 });
        await new Promise((resolve) => setTimeout(resolve, random(120)));
        if (random(2)) stream.abort();
        else for await (const _ of stream) break;
        await stream.result;
      }),
    );
    await idle();
  });
});

test('dispose ends what is in flight, in every state, and twice', async () => {
  const llm = await LLM.load('demo', { maxNumSeqs: 1 });
  const streams = [
    llm.generate(question('Describe the image.'), endless),
    llm.generate(question('Describe the image.'), endless),
    llm.generate({ prompt: '<image>', multiModalData: { image: picture('red-ring') } }, endless),
  ];
  await new Promise((resolve) => setTimeout(resolve, 20));
  const ends = [llm.dispose(), llm.dispose()];
  for (const output of await Promise.all(streams)) expect(output.outputs[0]!.finishReason).toBe('abort');
  await Promise.all(ends);
  expect(await codeOf(llm.generate('x'))).toBe('ERR_DISPOSED');
  expect(() => llm.stats()).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
});

test('loading is aborted by its signal', async () => {
  await expect(LLM.load('demo', { signal: AbortSignal.abort('stop') })).rejects.toBe('stop');
});

test('two engines in one process', async () => {
  const engines = await Promise.all([LLM.load('demo'), LLM.load('demo', { dtype: 'float32' })]);
  const answers = await Promise.all(
    engines.map((llm) => llm.generate(question('How many objects are there?'), { temperature: 0, maxTokens: 9 })),
  );
  expect(answers.map((a) => a.outputs[0]!.text.trim())).toEqual(['Four.', 'Four.']);
  await Promise.all(engines.map((llm) => llm.dispose()));
});

/** Runs a script of its own process; how it ended. */
function run(script: string): Promise<{ code: number | null; signal: string | null; out: string }> {
  const prelude = `const { LLM } = require(${JSON.stringify(join(root, 'dist', 'index.js'))});
    const ask = { prompt: 'USER: <image>\\nDescribe the image. ASSISTANT:', multiModalData: { image: ${JSON.stringify(picture('red-ring'))} } };
    const endless = { temperature: 0, maxTokens: 900, ignoreEos: true };`;
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['-e', prelude + script], { stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    child.stdout.on('data', (data: Buffer) => (out += data.toString()));
    child.stderr.on('data', (data: Buffer) => (out += data.toString()));
    child.on('close', (code, signal) => resolve({ code, signal, out }));
  });
}

describe('a process ends as its program says, never by a signal', () => {
  test.each<[string, string, number, RegExp]>([
    [
      'an engine that nobody disposes of',
      `LLM.load('demo').then(async (l) => console.log((await l.generate(ask, { temperature: 0, maxTokens: 3 })).outputs[0].text))`,
      0,
      /From left/,
    ],
    [
      'only the result is awaited',
      `LLM.load('demo').then((l) => { l.generate(ask, { temperature: 0, maxTokens: 3 }).then((o) => console.log('done', o.finished)); })`,
      0,
      /done true/,
    ],
    ['an unread rejection', `LLM.load('demo').then((l) => { l.stream('<image>'); })`, 0, /^$/],
    [
      'process.exit in the middle',
      `LLM.load('demo').then((l) => { l.generate(ask, endless); setTimeout(() => process.exit(7), 60); })`,
      7,
      /^$/,
    ],
    [
      'an uncaught error in the middle',
      `LLM.load('demo').then((l) => { l.generate(ask, endless); setTimeout(() => { throw new Error('mine'); }, 60); })`,
      1,
      /mine/,
    ],
    ['process.exit while loading', `LLM.load('demo'); setTimeout(() => process.exit(3), 5);`, 3, /^$/],
    [
      'a worker that ends in the middle',
      `
      const { Worker } = require('node:worker_threads');
      if (require('node:worker_threads').isMainThread) {
        const code = process.execArgv.at(-1) ?? '';
        const worker = new Worker(\`const { LLM } = require(${JSON.stringify(join(root, 'dist', 'index.js'))}); LLM.load('demo').then((l) => { l.stream('USER: hi ASSISTANT:', { maxTokens: 900, ignoreEos: true }); require('node:worker_threads').parentPort.postMessage('running'); });\`, { eval: true });
        worker.on('message', () => setTimeout(async () => { await worker.terminate(); const l = await LLM.load('demo'); console.log((await l.generate(ask, { temperature: 0, maxTokens: 3 })).outputs[0].text); }, 30));
      }`,
      0,
      /From left/,
    ],
  ])('%s', async (_name, script, code, out) => {
    const ended = await run(script);
    expect(ended).toMatchObject({ code, signal: null });
    expect(ended.out).toMatch(out);
  });
});
