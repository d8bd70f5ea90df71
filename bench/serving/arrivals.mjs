// Requests that come when they come, at 80% of what the engine can do; and what the engine does in a step beside the model.
import { follow, gaps, ids, load, load1, median, percentile, random, round, spreadOf } from './engine.mjs';

const shape = 'smollm2-135m';
const ask = (llm) =>
  follow(llm, ids(64 + Math.floor(random() * 128), 49000), { maxTokens: 32 + Math.floor(random() * 64) });

async function poisson({ threads, count = 120 }) {
  const load1Before = load1();
  const llm = await load(shape, { threads, maxModelLen: 512, maxNumSeqs: 16 });
  await Promise.all(Array.from({ length: 16 }, () => ask(llm).done));
  const started = performance.now();
  await Promise.all(Array.from({ length: count }, () => ask(llm).done));
  const capacity = count / ((performance.now() - started) / 1000);
  const rate = 0.8 * capacity;
  const streams = [];
  let due = performance.now();
  for (let i = 0; i < count; i++) {
    due += (-Math.log(1 - random()) / rate) * 1000;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
    streams.push(ask(llm));
  }
  await Promise.all(streams.map((s) => s.done));
  await llm.dispose();
  const ttft = streams.map((s) => s.ttft());
  const itl = streams.flatMap((s) => gaps(s.times));
  const ended = Math.max(...streams.map((s) => s.times.at(-1)));
  return {
    goal: 'TTFT and inter-token latency at 80% of capacity; told, not judged',
    value: {
      ttftP50: round(median(ttft)),
      ttftP99: round(percentile(ttft, 99)),
      itlP50: round(median(itl)),
      itlP99: round(percentile(itl, 99)),
    },
    unit: 'ms',
    spread: { ttft: spreadOf(ttft), itl: spreadOf(itl) },
    pass: streams.every((s) => s.times.length > 0),
    requests: count,
    capacity: round(capacity, 2),
    sent: round(rate, 2),
    served: round(count / ((ended - streams[0].started) / 1000), 2),
    load: load1Before,
  };
}

/** Everything in a step that is not the model's forward pass, sampling included. */
async function overhead({ threads, repeat = 3 }) {
  const load1Before = load1();
  const llm = await load('tinyllama-1.1b', { threads, maxModelLen: 512, maxNumSeqs: 16 });
  const measure = async (params) => {
    const streams = Array.from({ length: 16 }, () => follow(llm, ids(32), { maxTokens: 60, ...params }));
    await Promise.all(streams.map((s) => s.reach(4)));
    const before = llm.stats();
    await Promise.all(streams.map((s) => s.reach(56)));
    const after = llm.stats();
    await Promise.all(streams.map((s) => s.done));
    const of = (name) => after[name] - before[name];
    const rest = of('stepSeconds') - of('forwardSeconds');
    return {
      share: (100 * rest) / of('stepSeconds'),
      ms: (1000 * rest) / of('steps'),
      scheduler: (1e3 * of('schedulerSeconds')) / of('steps'),
    };
  };
  await measure({});
  const found = [];
  for (let i = 0; i < repeat; i++)
    found.push({ greedy: await measure({}), sampled: await measure({ temperature: 1, topP: 0.95, seed: i }) });
  await llm.dispose();
  const pick = (kind, field) => found.map((f) => f[kind][field]);
  const value = { share: median(pick('greedy', 'share')), ms: median(pick('greedy', 'ms')) };
  return {
    goal: 'under 1% of a step and under 0.3 ms at 16 sequences',
    value: { share: round(value.share, 2), ms: round(value.ms, 3) },
    unit: '% of a step, ms a step',
    spread: { share: spreadOf(pick('greedy', 'share'), 2), ms: spreadOf(pick('greedy', 'ms'), 3) },
    pass: value.share < 1 && value.ms < 0.3,
    scheduler: round(median(pick('greedy', 'scheduler')), 4),
    sampledTopP: { share: round(median(pick('sampled', 'share')), 2), ms: round(median(pick('sampled', 'ms')), 3) },
    load: load1Before,
  };
}

export const rows = { 'serving/poisson': poisson, 'serving/overhead': overhead };
