// How prompts and decoding slow down with length, against what their operations and bytes predict; and what guessing tokens by lookup gains.
import { byTurns, judged, ratios, told, verdict } from '../pair.mjs';
import { LLM, follow, gaps, ids, load as loadShape, load1, median, shapes } from '../serving/engine.mjs';
import { promptOperations, stepBytes } from './arithmetic.mjs';
import { cores, smollm2File } from './machine.mjs';

const lengths = [1024, 2048, 4096, 8192, 16384];
const decoded = 32;
const within = 1.1;

async function growth({ threads = cores, repeat = 3 }) {
  const load = load1();
  const name = 'smollm2-135m-16k';
  const shape = (shapes[name] = { ...shapes['smollm2-135m'], max_position_embeddings: 32768 });
  const llm = await loadShape(name, {
    threads,
    maxModelLen: lengths.at(-1) + 64,
    maxNumSeqs: 1,
    enablePrefixCaching: false,
  });
  const { kvBytesPerToken } = llm.memoryPlan;
  const prompts = Object.fromEntries(lengths.map((n) => [n, []]));
  const steps = Object.fromEntries(lengths.map((n) => [n, []]));
  await follow(llm, ids(1024), { maxTokens: 4 }).done;
  for (let i = 0; i < repeat; i++) {
    for (const n of lengths) {
      const stream = follow(llm, ids(n), { maxTokens: decoded });
      await stream.done;
      prompts[n].push(stream.ttft());
      steps[n].push(median(gaps(stream.times)));
    }
  }
  await llm.dispose();
  // By the shortest of the same turn: what was predicted is only how they grow.
  const base = lengths[0];
  const grown = (found, cost) =>
    Object.fromEntries(
      lengths.slice(1).map((n) => [n, ratios(found[n], found[base]).map((r) => r / (cost(n) / cost(base)))]),
    );
  const promptGrowth = grown(prompts, (n) => promptOperations(shape, n));
  const stepGrowth = grown(steps, (n) => stepBytes(shape, { body: 'bf16', output: 'bf16' }, 1, n, kvBytesPerToken));
  const worst = (by) => Object.values(by).reduce((a, b) => (median(a) > median(b) ? a : b));
  const all = (by) => Object.fromEntries(Object.entries(by).map(([n, list]) => [n, told(list, 3)]));
  return verdict(
    [
      judged('prompts, worst length by its operations', worst(promptGrowth), { atMost: within }),
      judged('decoding, worst length by its bytes', worst(stepGrowth), { atMost: within }),
    ],
    {
      unit: 'times what was predicted from 1,024 tokens',
      prompts: all(promptGrowth),
      decoding: all(stepGrowth),
      ms: { prompts: all(prompts), step: all(steps) },
      load,
    },
  );
}

/** Tasks whose answers repeat their prompts. */
const source = `function total(items) {
  let sum = 0;
  for (const item of items) {
    if (item.price < 0) throw new Error('negative price');
    sum += item.price * item.count;
  }
  return sum;
}`;
const letter = `Dear Ms Adams, the parcel that you ordered on the fourth of May left our warehouse in Leeds this morning. It should reach you
within three working days. If it does not, please call us on the number printed at the top of this letter. Yours sincerely, the team.`;
const tasks = [
  `Repeat this code exactly, and nothing else:\n\n${source}`,
  `Rename the variable "sum" to "result" in this code and print the whole code:\n\n${source}`,
  `Copy the following letter word for word:\n\n${letter}`,
  `Correct the spelling of this letter and print it in full:\n\n${letter}`,
];

async function speculation({ threads = cores, repeat = 3 }) {
  const load = load1();
  const file = smollm2File;
  const options = { threads, dtype: 'bfloat16', maxModelLen: 1024, maxNumSeqs: 1, enablePrefixCaching: false };
  const plain = await LLM.load(file, options);
  const guessing = await LLM.load(file, { ...options, numSpeculativeTokens: 6 });
  const answers = { plain: [], guessing: [] };
  const answer = (llm, side) => async () => {
    let ms = 0;
    let tokens = 0;
    answers[side] = [];
    for (const content of tasks) {
      const started = performance.now();
      const result = await llm.chat([{ role: 'user', content }], { temperature: 0, maxTokens: 160 });
      ms += performance.now() - started;
      tokens += result.outputs[0].tokenIds.length;
      answers[side].push(result.outputs[0].tokenIds.join());
    }
    return (tokens / ms) * 1000;
  };
  const found = await byTurns({ plain: answer(plain, 'plain'), guessing: answer(guessing, 'guessing') }, repeat);
  const equal = answers.plain.join(' ') === answers.guessing.join(' ');
  await Promise.all([plain.dispose(), guessing.dispose()]);
  return verdict(
    [
      judged('tokens a second by those without guessing', ratios(found.guessing, found.plain), { atLeast: 1 }),
      { what: 'answers equal', goal: 'to the token', pass: equal },
    ],
    {
      unit: 'times, four tasks that repeat their prompts',
      tokensPerSecond: Object.fromEntries(Object.entries(found).map(([side, list]) => [side, told(list)])),
      load,
    },
  );
}

export const rows = { growth, speculation };
