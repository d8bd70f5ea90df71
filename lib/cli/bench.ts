/** `ocelli bench throughput|latency`: vLLM's benchmarks by their definitions and field names, in this process. */
import { writeFileSync } from 'node:fs';
import { InvalidArgumentError, Option, type Command } from 'commander';
import type { LLM } from '../index';
import { randomRequests, type DataFlags } from './bench-data';
import { benchSampling, measureAll, percentile, throughputFields } from './bench-measure';
import { addEngineFlags, engineOptionsOf } from './flags';
import { sizeOf } from './inspect';
import { addModelFlags, loadEngine, type ModelFlags } from './load';
import { Interrupted, stoppable, UsageError } from './outcome';
import { print, printJson, StatusLine, table } from './terminal';

interface BenchFlags extends ModelFlags, DataFlags {
  datasetName: 'random' | 'pictures';
  n: number;
  seed: number;
  json?: boolean;
  outputJson?: string;
}

interface ThroughputFlags extends BenchFlags {
  numPrompts: number;
  numWarmups: number;
  requestRate: number;
}

interface LatencyFlags extends BenchFlags {
  batchSize: number;
  numIters: number;
  numItersWarmup: number;
}

type Result = Record<string, unknown>;
/** A row of the readable table: what it is, its field, its unit. */
type Row = readonly [title: string, field: string, unit: string];

export function addBenchCommand(program: Command): void {
  const bench = program.command('bench').description("measures a model on this machine, by vLLM's definitions");
  const throughput = bench
    .command('throughput')
    .description('sends requests, all at once or at a rate: requests and tokens a second, TTFT, TPOT, ITL');
  addBenchFlags(throughput, 32, 128)
    .option('--num-prompts <N>', 'requests', integer(1), 64)
    .option('--num-warmups <N>', 'requests that run before and are not counted', integer(0), 2)
    .option('--request-rate <X>', 'requests a second, as a Poisson process; default: all at once', rate, Infinity)
    .action(benchThroughput);
  const latency = bench.command('latency').description('one batch, over and over: its time from the call to the end');
  addBenchFlags(latency, 32, 128)
    .option('--batch-size <N>', 'requests of the batch', integer(1), 8)
    .option('--num-iters <N>', 'batches that are measured', integer(1), 10)
    .option('--num-iters-warmup <N>', 'batches that run before', integer(0), 2)
    .action(benchLatency);
}

function addBenchFlags(command: Command, inputLen: number, outputLen: number): Command {
  addModelFlags(command)
    .addOption(
      new Option('--dataset-name <NAME>', 'random: token ids; pictures: pictures of noise before them')
        .choices(['random', 'pictures'])
        .default('random'),
    )
    .option('--input-len <N>', 'tokens of a prompt, pictures not counted', integer(1), inputLen)
    .option('--output-len <N>', 'tokens of an answer', integer(1), outputLen)
    .option('--range-ratio <X>', 'lengths vary evenly from (1 - X) to (1 + X) times these', ratio, 0)
    .option('--image-size <WxH>', 'size of a picture', sizeOf, { width: 336, height: 336 })
    .option('--images-per-prompt <N>', 'pictures of a prompt', integer(1), 1)
    .option('--n <N>', 'answers to each prompt', integer(1), 1)
    .option('--seed <N>', 'of lengths, ids and pictures', integer(0), 0)
    .option('--json', 'print the results as JSON')
    .option('--output-json <FILE>', 'write the results there as JSON');
  return addEngineFlags(command);
}

async function benchThroughput(flags: ThroughputFlags): Promise<void> {
  const rows: Row[] = [
    ['requests', 'num_requests', ''],
    ['duration', 'elapsed_time', 's'],
    ['request throughput', 'request_throughput', 'requests/s'],
    ['output token throughput', 'output_throughput', 'tokens/s'],
    ['total token throughput', 'total_token_throughput', 'tokens/s'],
    ...['ttft', 'tpot', 'itl', 'e2el'].flatMap((name) =>
      ['mean', 'median', 'p99'].map((kind): Row => [`${kind} ${titles[name]!}`, `${kind}_${name}_ms`, 'ms']),
    ),
  ];
  await withEngine(flags, rows, async (llm, data, show) => {
    const sampling = { ...benchSampling, n: flags.n };
    await measureAll(llm, randomRequests(llm, data, flags.numWarmups, flags.seed + 1), sampling, {});
    const requests = randomRequests(llm, data, flags.numPrompts, flags.seed);
    const { requestRate, seed } = flags;
    const onEnd = (ended: number): void => show(`${ended} of ${requests.length} requests`);
    const { measured, duration } = await measureAll(llm, requests, sampling, { requestRate, seed, onEnd });
    const request_rate = requestRate === Infinity ? 'inf' : requestRate;
    return { num_prompts: flags.numPrompts, request_rate, ...throughputFields(measured, duration) };
  });
}

const titles: Record<string, string> = {
  ttft: 'time to first token',
  tpot: 'time per output token',
  itl: 'inter-token latency',
  e2el: 'end-to-end latency',
};

const percentages = [10, 25, 50, 75, 90, 99];

async function benchLatency(flags: LatencyFlags): Promise<void> {
  const rows: Row[] = [
    ['batches', 'num_iters', ''],
    ['mean latency', 'avg_latency', 's'],
    ...percentages.map((p): Row => [`${p}% percentile`, `percentiles.${p}`, 's']),
  ];
  await withEngine(flags, rows, async (llm, data, show) => {
    const latencies: number[] = [];
    const all = flags.numItersWarmup + flags.numIters;
    for (let i = 0; i < all; i++) {
      show(`batch ${i + 1} of ${all}`);
      // New ones each time: the prefix cache would answer the same ones.
      const requests = randomRequests(llm, data, flags.batchSize, flags.seed + i);
      const { duration } = await measureAll(llm, requests, { ...benchSampling, n: flags.n }, {});
      if (i >= flags.numItersWarmup) latencies.push(duration);
    }
    return {
      batch_size: flags.batchSize,
      num_iters: flags.numIters,
      avg_latency: latencies.reduce((a, b) => a + b, 0) / latencies.length,
      latencies,
      percentiles: Object.fromEntries(percentages.map((p) => [p, percentile(latencies, p)])),
    };
  });
}

/** Loads, measures, prints; Ctrl-C stops in between. */
async function withEngine(
  flags: BenchFlags,
  rows: readonly Row[],
  run: (llm: LLM, data: DataFlags, show: (text: string) => void) => Promise<Result>,
): Promise<void> {
  const imagesPerPrompt = flags.datasetName === 'pictures' ? flags.imagesPerPrompt : 0;
  const options = engineOptionsOf(flags as never);
  // Random weights need a configuration and no more.
  if (options.loadFormat === 'dummy') options.skipTokenizerInit = true;
  if (imagesPerPrompt > 0) options.limitMmPerPrompt ??= { image: imagesPerPrompt };
  const llm = await loadEngine(flags, options);
  const status = new StatusLine();
  let stopped = false;
  try {
    checkLength(llm, flags);
    const measured = await stoppable(
      () => {
        stopped = true;
        void llm.dispose();
      },
      () => run(llm, { ...flags, imagesPerPrompt }, (text) => status.show(text)),
    );
    const result = { ...settings(llm, flags, imagesPerPrompt), ...measured };
    status.clear();
    if (flags.outputJson !== undefined) writeFileSync(flags.outputJson, `${JSON.stringify(result, null, 2)}\n`);
    if (flags.json) printJson(result);
    else
      print(
        table(
          rows.flatMap((row) => line(result, row)),
          '',
        ),
      );
  } catch (e) {
    throw stopped ? new Interrupted() : e;
  } finally {
    status.clear();
    await llm.dispose();
  }
}

function settings(llm: LLM, flags: BenchFlags, imagesPerPrompt: number): Result {
  const { name, architecture, dtype } = llm.modelConfig;
  const { maxNumSeqs, maxNumBatchedTokens } = llm.memoryPlan;
  return {
    backend: 'ocelli',
    model: name,
    architecture,
    dtype,
    max_num_seqs: maxNumSeqs,
    max_num_batched_tokens: maxNumBatchedTokens,
    dataset_name: flags.datasetName,
    input_len: flags.inputLen,
    output_len: flags.outputLen,
    range_ratio: flags.rangeRatio,
    ...(imagesPerPrompt > 0
      ? { images_per_prompt: imagesPerPrompt, image_size: `${flags.imageSize.width}x${flags.imageSize.height}` }
      : {}),
    n: flags.n,
    seed: flags.seed,
  };
}

function checkLength(llm: LLM, { inputLen, outputLen, rangeRatio }: BenchFlags): void {
  const longest = Math.floor((inputLen + outputLen) * (1 + rangeRatio));
  const { maxModelLen } = llm.memoryPlan;
  if (longest > maxModelLen)
    throw new UsageError(
      `Expected --input-len and --output-len of at most ${maxModelLen} together but they reach ${longest}`,
    );
}

function line(result: Result, [title, field, unit]: Row): (readonly [string, string])[] {
  const value = field.split('.').reduce<unknown>((of, key) => (of as Result | undefined)?.[key], result);
  if (typeof value !== 'number') return [];
  const digits = Number.isInteger(value) ? 0 : value < 10 ? 3 : 1;
  return [[title, `${value.toFixed(digits)}${unit ? ` ${unit}` : ''}`]];
}

function integer(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isSafeInteger(value) || value < least)
      throw new InvalidArgumentError(`Expected an integer of at least ${least}.`);
    return value;
  };
}

function ratio(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value < 1))
    throw new InvalidArgumentError('Expected a number from 0 to below 1.');
  return value;
}

function rate(text: string): number {
  const value = text === 'inf' ? Infinity : Number(text);
  if (text.trim() === '' || !(value > 0)) throw new InvalidArgumentError('Expected a number above 0, or inf.');
  return value;
}
