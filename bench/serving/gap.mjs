// A neighbour decodes; then a long prompt, or a picture, comes. How long does the neighbour wait, and how much longer the newcomer?
import { availableParallelism } from 'node:os';
import { follow, gaps, ids, load, load1, median, noise, placeholder, round, spreadOf, stall } from './engine.mjs';

const mostGap = 3;
const mostTtft = 1.7;

function row(shape, newcomer, options = {}) {
  return async ({ threads, repeat = 3 }) => {
    const load1Before = load1();
    const llm = await load(shape, { threads, maxModelLen: 2048, ...options });
    const alone = async () => {
      const stream = follow(llm, newcomer(), { maxTokens: 1 });
      await stream.done;
      return stream.ttft();
    };
    const beside = async () => {
      const neighbour = follow(llm, ids(16), { maxTokens: 1500 });
      // As long as it is alone, too, the machine's other work makes some gaps longer: that is told beside what is judged.
      await neighbour.reach(24 + 80);
      const before = gaps(neighbour.times.slice(4));
      const normal = median(before);
      const from = neighbour.times.length - 1;
      const stream = follow(llm, newcomer(), { maxTokens: 1 });
      await stream.done;
      await neighbour.reach(neighbour.times.length + 1);
      const worst = Math.max(...gaps(neighbour.times.slice(from)));
      neighbour.stream.abort();
      await neighbour.done;
      return { normal, worstAlone: Math.max(...before), worst, ttft: stream.ttft() };
    };
    await alone();
    await beside();
    const found = [];
    for (let i = 0; i < repeat; i++) {
      const lone = await alone();
      const both = await beside();
      found.push({ alone: lone, ...both, stall: await stall(threads ?? availableParallelism(), both.ttft) });
    }
    await llm.dispose();
    const times = found.map((f) => f.worst / f.normal);
    const undisturbed = found.map((f) => f.worstAlone / f.normal);
    const stalls = found.map((f) => f.stall / f.normal);
    const slower = found.map((f) => f.ttft / f.alone);
    return {
      goal: `the neighbour's worst gap at most ${mostGap} times its normal one; TTFT at most ${mostTtft} times that alone`,
      value: { gap: round(median(times), 2), ttft: round(median(slower), 2) },
      unit: 'times',
      spread: { gap: spreadOf(times, 2), ttft: spreadOf(slower, 2) },
      pass: median(times) <= mostGap && median(slower) <= mostTtft,
      // What the machine alone holds a thread up in as long a time, by the same normal gap.
      stalls: { median: round(median(stalls), 2), spread: spreadOf(stalls, 2) },
      gapAlone: { median: round(median(undisturbed), 2), spread: spreadOf(undisturbed, 2) },
      ms: found.map((f) => Object.fromEntries(Object.entries(f).map(([k, v]) => [k, round(v)]))),
      load: load1Before,
    };
  };
}

const picture = () => ({
  promptTokenIds: [placeholder, ...ids(16)],
  multiModalData: { image: noise(336, 336) },
});

export const rows = {
  'serving/gap-prompt-tinyllama': row('tinyllama-1.1b', () => ids(1500)),
  'serving/gap-prompt-smollm2': row('smollm2-135m', () => ids(1500)),
  'serving/gap-picture': row('clip-l-336+tinyllama-1.1b', picture),
};
