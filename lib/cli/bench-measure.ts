/** Requests with the times that vLLM's benchmarks take of them, in this process: no server between. */
import type { LLM, SamplingOptions } from '../index';
import { randomNumbers, type BenchRequest } from './bench-data';

/** Milliseconds; tokens of all outputs. */
export interface Measured {
  /** From the call to the first token. */
  ttft: number;
  /** Between one delivery of tokens and the next. */
  itl: number[];
  /** From the call to the end. */
  latency: number;
  inputTokens: number;
  outputTokens: number;
  /** Time per output token behind the first, of output 0; none where there is but one. */
  tpot?: number;
}

/** What vLLM's benchmarks ask for: sampling at temperature 1, no early end. */
export const benchSampling: SamplingOptions = { temperature: 1, ignoreEos: true, seed: 0 };

export async function measure(llm: LLM, request: BenchRequest, sampling: SamplingOptions): Promise<Measured> {
  const started = performance.now();
  const stream = llm.stream(request.prompt, { ...sampling, maxTokens: request.outputLen });
  const times: number[] = [];
  let outputTokens = 0;
  let first = 0;
  for await (const { outputs } of stream) {
    const tokens = outputs.reduce((sum, o) => sum + o.tokenIds.length, 0);
    if (tokens === 0) continue;
    times.push(performance.now());
    outputTokens += tokens;
    first += outputs[0]!.tokenIds.length;
  }
  const latency = performance.now() - started;
  const { usage } = await stream.result;
  const ttft = times[0]! - started;
  return {
    ttft,
    itl: times.slice(1).map((time, i) => time - times[i]!),
    latency,
    inputTokens: usage.promptTokens,
    outputTokens,
    ...(first > 1 ? { tpot: (latency - ttft) / (first - 1) } : {}),
  };
}

/**
 * All at once, or as they come: `requestRate` a second, their gaps drawn from the exponential distribution (a Poisson process). Nobody
 * waits for an answer before the next is sent. Duration in seconds.
 */
export async function measureAll(
  llm: LLM,
  requests: readonly BenchRequest[],
  sampling: SamplingOptions,
  { requestRate = Infinity, seed = 0, onEnd }: { requestRate?: number; seed?: number; onEnd?: (ended: number) => void },
): Promise<{ measured: Measured[]; duration: number }> {
  const random = randomNumbers(seed);
  const started = performance.now();
  let due = 0;
  let ended = 0;
  const measured = await Promise.all(
    requests.map(async (request) => {
      const wait = due;
      due += requestRate === Infinity ? 0 : (-Math.log(1 - random()) / requestRate) * 1000;
      if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait - (performance.now() - started)));
      const result = await measure(llm, request, sampling);
      onEnd?.(++ended);
      return result;
    }),
  );
  return { measured, duration: (performance.now() - started) / 1000 };
}

/** Linear between the two nearest, as NumPy has it. @param p from 0 to 100 */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = ((sorted.length - 1) * p) / 100;
  const below = sorted[Math.floor(at)] ?? NaN;
  return below + (sorted[Math.ceil(at)]! - below) * (at - Math.floor(at));
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

function spread(name: string, values: readonly number[]): Record<string, number | null> {
  const deviation = Math.sqrt(mean(values.map((x) => (x - mean(values)) ** 2)));
  const figures = {
    [`mean_${name}_ms`]: mean(values),
    [`median_${name}_ms`]: percentile(values, 50),
    [`std_${name}_ms`]: deviation,
    [`p99_${name}_ms`]: percentile(values, 99),
  };
  return Object.fromEntries(Object.entries(figures).map(([key, x]) => [key, Number.isFinite(x) ? x : null]));
}

/** The fields of vLLM's benchmark_throughput and benchmark_serving; tokens and requests a second, milliseconds. */
export function throughputFields(measured: readonly Measured[], duration: number): Record<string, number | null> {
  const sum = (of: (m: Measured) => number): number => measured.reduce((total, m) => total + of(m), 0);
  const input = sum((m) => m.inputTokens);
  const output = sum((m) => m.outputTokens);
  return {
    elapsed_time: duration,
    num_requests: measured.length,
    total_num_tokens: input + output,
    requests_per_second: measured.length / duration,
    tokens_per_second: (input + output) / duration,
    duration,
    completed: measured.length,
    total_input_tokens: input,
    total_output_tokens: output,
    request_throughput: measured.length / duration,
    output_throughput: output / duration,
    total_token_throughput: (input + output) / duration,
    ...spread(
      'ttft',
      measured.map((m) => m.ttft),
    ),
    ...spread(
      'tpot',
      measured.flatMap((m) => m.tpot ?? []),
    ),
    ...spread(
      'itl',
      measured.flatMap((m) => m.itl),
    ),
    ...spread(
      'e2el',
      measured.map((m) => m.latency),
    ),
  };
}
