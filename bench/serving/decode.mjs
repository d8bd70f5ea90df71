// Decoding with 1, 4, 8 and 16 sequences at once: tokens a second of all together. What engines gain from a batch is here.
import { ggufFile } from '../models.mjs';
import { byTurns, judged, ratios, told, unmeasured, verdict } from '../pair.mjs';
import { startPeer } from '../peers/peer.mjs';
import { cores } from '../rows/machine.mjs';
import { follow, ids, load, load1 } from './engine.mjs';

const counts = [1, 4, 8, 16];
const tokens = 64;
const peerCount = 8;

const prompts = (count) => Array.from({ length: count }, () => ids(64));

/** From when the last sequence has its first token on, prompts are no part of it. */
async function tokensPerSecond(llm, count) {
  const streams = prompts(count).map((prompt) => follow(llm, prompt, { maxTokens: tokens }));
  await Promise.all(streams.map((s) => s.done));
  const from = Math.max(...streams.map((s) => s.times[0]));
  const to = Math.max(...streams.map((s) => s.times.at(-1)));
  const during = streams.reduce((sum, s) => sum + s.times.filter((t) => t > from).length, 0);
  return (during / (to - from)) * 1000;
}

function row(shape, gain) {
  return async ({ threads = cores, repeat = 3 }) => {
    const load1Before = load1();
    const llm = await load(shape, { threads, maxModelLen: 512, maxNumSeqs: 16 });
    const file = ggufFile(shape, 'bf16');
    const peer = await startPeer('llama-cpp', { file, threads, sequences: peerCount, contextSize: 512 });
    const sides = Object.fromEntries(counts.map((n) => [n, () => tokensPerSecond(llm, n)]));
    if (peer.call) sides[peer.name] = () => peer.call('decode', prompts(peerCount), tokens);
    const found = await byTurns(sides, repeat);
    await peer.stop?.();
    await llm.dispose();
    const ahead = `${peerCount} sequences by node-llama-cpp's`;
    return verdict(
      [
        judged(`${peerCount} sequences by one`, ratios(found[peerCount], found[1]), { atLeast: gain }),
        peer.call
          ? judged(ahead, ratios(found[peerCount], found[peer.name]), { atLeast: 1 })
          : unmeasured(ahead, '>= 1', peer.why),
      ],
      {
        unit: 'times one sequence',
        tokensPerSecond: Object.fromEntries(Object.entries(found).map(([side, list]) => [side, told(list)])),
        load: load1Before,
      },
    );
  };
}

export const rows = {
  'serving/decode-tinyllama': row('tinyllama-1.1b', 4),
  'serving/decode-smollm2': row('smollm2-135m', 3),
};
