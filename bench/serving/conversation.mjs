// Four turns about one picture of 576 tokens: what was decoded, encoded and computed once is not again.
import { readFileSync } from 'node:fs';
import { follow, ids, load, load1, median, placeholder, round, spreadOf } from './engine.mjs';

const photo = readFileSync(new URL('../e2e/photo-1024x768.jpg', import.meta.url));
const turns = 4;
const most = 0.15;

async function conversation({ threads, repeat = 3 }) {
  const load1Before = load1();
  const shares = [];
  const ms = [];
  const exact = [];
  let once = true;
  for (let i = 0; i < repeat; i++) {
    const llm = await load('clip-l-336+tinyllama-1.1b', { threads, maxModelLen: 2048 });
    const { blockSize } = llm.memoryPlan;
    // Threads and code are there; the picture is not.
    await follow(llm, ids(8), { maxTokens: 4 }).done;
    const before = llm.stats();
    // Decoded pictures are kept beyond an engine's life: each has a file of its own, by a byte behind the picture's end.
    const image = Buffer.concat([photo, Buffer.from([i])]);
    const history = [placeholder];
    const ttfts = [];
    let computed = 0;
    for (let turn = 0; turn < turns; turn++) {
      history.push(...ids(20));
      const stream = follow(llm, { promptTokenIds: [...history], multiModalData: { image } }, { maxTokens: 24 });
      const { usage, outputs } = await stream.done;
      ttfts.push(stream.ttft());
      // Full blocks of what was computed so far; one token of the prompt at least is computed anew.
      const expected = blockSize * Math.floor(Math.min(computed, usage.promptTokens - 1) / blockSize);
      exact.push({ turn, promptTokens: usage.promptTokens, cached: usage.cachedTokens, expected });
      // The last token of an answer is sampled, not computed.
      computed = usage.promptTokens + usage.completionTokens - 1;
      history.push(...outputs[0].tokenIds);
    }
    const after = llm.stats();
    once &&= after.encoderRuns - before.encoderRuns === 1 && after.imageDecodes - before.imageDecodes === 1;
    await llm.dispose();
    shares.push(Math.max(...ttfts.slice(1)) / ttfts[0]);
    ms.push(ttfts.map((t) => round(t)));
  }
  return {
    goal: `TTFT of later turns at most ${most * 100}% of the first; one decode, one encoder run; hit tokens counted exactly`,
    value: round(median(shares), 3),
    unit: "of the first turn's TTFT, the slowest later turn",
    spread: spreadOf(shares, 3),
    pass: median(shares) <= most && once && exact.every((e) => e.cached === e.expected),
    decodedAndEncodedOnce: once,
    hits: exact.slice(0, turns),
    ms,
    load: load1Before,
  };
}

export const rows = { 'serving/conversation': conversation };
