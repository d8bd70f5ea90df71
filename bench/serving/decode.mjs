// Decoding with 1, 4, 8 and 16 sequences at once: tokens a second of all together. What engines gain from a batch is here.
import { follow, ids, load, load1, median, round, spreadOf } from './engine.mjs';
import { peerTokensPerSecond } from './peer.mjs';

const counts = [1, 4, 8, 16];
const tokens = 64;

/** From when the last sequence has its first token on, prompts are no part of it. */
async function tokensPerSecond(llm, count) {
  const streams = Array.from({ length: count }, () => follow(llm, ids(64), { maxTokens: tokens }));
  await Promise.all(streams.map((s) => s.done));
  const from = Math.max(...streams.map((s) => s.times[0]));
  const to = Math.max(...streams.map((s) => s.times.at(-1)));
  const during = streams.reduce((sum, s) => sum + s.times.filter((t) => t > from).length, 0);
  return (during / (to - from)) * 1000;
}

function row(shape, gain, noted) {
  return async ({ threads, repeat = 3 }) => {
    const load = load1();
    const llm = await engine(shape, threads);
    await tokensPerSecond(llm, 16);
    const found = new Map(counts.map((n) => [n, []]));
    // Interleaved, so that a disturbance meets all of them.
    for (let i = 0; i < repeat; i++) for (const n of counts) found.get(n).push(await tokensPerSecond(llm, n));
    await llm.dispose();
    const gains = found.get(8).map((x, i) => x / found.get(1)[i]);
    const peer = await peerTokensPerSecond(shape, threads, repeat);
    const value = median(gains);
    const eight = median(found.get(8));
    return {
      goal: `8 sequences at least ${gain} times one, and more than node-llama-cpp`,
      value: round(value, 2),
      unit: 'times one sequence',
      spread: spreadOf(gains, 2),
      pass: value >= gain && eight > (peer.tokensPerSecond ?? noted),
      tokensPerSecond: Object.fromEntries([...found].map(([n, list]) => [n, round(median(list))])),
      peer: peer.tokensPerSecond === undefined ? { noted, why: peer.why } : peer,
      load,
    };
  };
}

const engine = (shape, threads) => load(shape, { threads, maxModelLen: 512, maxNumSeqs: 16 });

export const rows = {
  'serving/decode-tinyllama': row('tinyllama-1.1b', 4, 24),
  'serving/decode-smollm2': row('smollm2-135m', 3, 109),
};
