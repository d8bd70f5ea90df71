// Aborts at random points, and engines that start and stop in workers: nothing is left behind, no signal ends the process.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { LLM, load1, noise, random } from './engine.mjs';

const question = (image) => ({ prompt: 'USER: <image>\nDescribe the image. ASSISTANT:', multiModalData: { image } });
const between = (from, to) => from + Math.floor(random() * (to - from + 1));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function aborts({ threads, count = 1000, full }) {
  const load1Before = load1();
  const total = full ? 10_000 : count;
  const pictures = Array.from({ length: 8 }, () => noise(96, 96));
  // Room for the features of two pictures: a reference that is not given back stops the third.
  const encoderCacheBytes = 2 * 64 * 192 * 4;
  const llm = await LLM.load('demo', { threads, encoderCacheBytes, maxNumSeqs: 8 });
  let next = 0;
  const one = async () => {
    while (next++ < total) {
      const params = { n: between(1, 4), temperature: 1, maxTokens: between(1, 60), ignoreEos: true };
      const stream = llm.stream(
        question(pictures[between(0, 7)]),
        params,
        random() < 0.1 ? { maxUnreadTokens: 2 } : {},
      );
      const kind = random();
      if (kind < 0.4) {
        let items = between(1, 8);
        for await (const { finished } of stream) if (finished || --items === 0) break;
      } else {
        // Anywhere from before the submission to behind the end, read or not.
        await sleep(random() * 25);
        stream.abort();
      }
      await stream.result;
    }
  };
  await Promise.all(Array.from({ length: 24 }, one));
  for (let i = 0; i < 400 && llm.stats().kvBlocksUsed + llm.stats().running + llm.stats().waiting > 0; i++)
    await sleep(5);
  const { kvBlocksUsed, running, waiting } = llm.stats();
  // Each new picture needs the room of an old one.
  const before = llm.stats().encoderRuns;
  const fresh = [1, 2, 3, 4].map(() => question(noise(96, 96)));
  const answered = await Promise.race([llm.generate(fresh, { maxTokens: 2, ignoreEos: true }), sleep(20_000)]);
  const encoded = llm.stats().encoderRuns - before;
  await llm.dispose();
  const held = answered?.every((o) => o.finished && !o.error) && encoded === 4 ? 0 : 1;
  const value = { blocks: kvBlocksUsed, sequences: running + waiting, encoderReferences: held };
  return {
    goal: 'no block, sequence or encoder reference is left behind',
    value,
    unit: `after ${total} aborts`,
    spread: [0, 0],
    pass: kvBlocksUsed + running + waiting + held === 0,
    load: load1Before,
  };
}

const body = `
const { parentPort, workerData } = require('node:worker_threads');
const { LLM } = require(workerData.library);
LLM.load('demo').then(async (llm) => {
  const stream = llm.stream('USER: What is it? ASSISTANT:', { maxTokens: 200, ignoreEos: true });
  parentPort.postMessage('running');
  if (workerData.end === 'terminate') return stream.result;
  for await (const item of stream) if (item.usage.completionTokens > workerData.tokens) break;
  if (workerData.end === 'exit') process.exit(0);
  if (workerData.end === 'dispose') await llm.dispose();
});`;

/** In this process: so many workers, some at once, each ended in one of four ways. */
async function startAndStop(total) {
  const { Worker } = createRequire(import.meta.url)('node:worker_threads');
  const library = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
  let next = 0;
  const one = async () => {
    while (next++ < total) {
      const end = ['dispose', 'terminate', 'exit', 'leave'][between(0, 3)];
      const worker = new Worker(body, { eval: true, workerData: { library, end, tokens: between(0, 9) } });
      const ended = new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject));
      await new Promise((resolve) => worker.once('message', resolve));
      if (end === 'terminate') {
        await sleep(random() * 30);
        await worker.terminate();
      }
      await ended;
    }
  };
  await Promise.all(Array.from({ length: 3 }, one));
}

async function workers({ count = 40, full }) {
  const load1Before = load1();
  const total = full ? 1000 : count;
  const script = `import(${JSON.stringify(import.meta.url)}).then((m) => m.startAndStop(${total}))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code, signal] = await new Promise((resolve) => child.on('close', (...end) => resolve(end)));
  return {
    goal: 'every worker ends, none by a signal',
    value: { code, signal },
    unit: `after ${total} engines in workers`,
    spread: [0, 0],
    pass: code === 0 && signal === null,
    load: load1Before,
  };
}

export { startAndStop };
export const rows = { 'serving/aborts': aborts, 'serving/workers': workers };
