/** One mix: an engine's options and the requests that meet in it, all drawn from (seed, number). */
import type { EngineOptions, Prompt, RequestOptions, SamplingOptions } from '../../dist/index';
import { Random } from './random';
import type { Subject } from './subjects';

export interface Ask {
  prompt: Prompt;
  params: SamplingOptions;
  request: RequestOptions;
  /** Milliseconds after the wave began. */
  delay: number;
  /** Aborted after so many items of its stream. */
  abortAfter?: number;
  /** A reader that rests so many milliseconds after each item. */
  rest?: number;
}

export interface Mix {
  number: number;
  subject: Subject;
  /** What results may depend on: the reference runs under it too. */
  kind: {
    kvCacheDtype: 'float32' | 'bfloat16' | 'int8';
    dtype: 'float32' | 'bfloat16';
    quantization: 'none' | 'int8' | 'int4';
    accuracy: 'fast' | 'balanced' | 'exact';
  };
  asks: Ask[];
  /** Each wave sends these of the asks, in this order. */
  waves: number[][];
  /** What results may not depend on. `longest` is the most tokens of one request, `features` those of pictures. */
  options(sizes: { longest: number; features: number; kvBytesPerToken: number; maxModelLen: number }): EngineOptions;
}

const weights = [
  ...Array.from({ length: 4 }, () => ({ quantization: 'none', accuracy: 'balanced' }) as const),
  { quantization: 'int8', accuracy: 'fast' },
  { quantization: 'int8', accuracy: 'balanced' },
  { quantization: 'int4', accuracy: 'fast' },
  { quantization: 'int4', accuracy: 'balanced' },
  { quantization: 'int4', accuracy: 'exact' },
] as const;

export function drawMix(seed: number, number: number, subjects: readonly Subject[]): Mix {
  const random = new Random(seed, number);
  const subject = subjects[number % subjects.length]!;
  const asks = Array.from({ length: random.between(1, subject.maxRequests) }, () => drawAsk(random, subject));
  const all = [...asks.keys()];
  const waves = [all, ...(random.chance(0.5) ? [random.shuffled(all)] : [])];
  const optionsSeed = random.between(0, 2 ** 30);
  return {
    number,
    subject,
    kind: {
      kvCacheDtype: random.pick(['float32', 'bfloat16', 'int8']),
      dtype: subject.name === 'real-width' || random.chance(0.7) ? 'bfloat16' : 'float32',
      ...random.pick(weights),
    },
    asks,
    waves,
    options: (sizes) => drawOptions(new Random(optionsSeed, number), sizes),
  };
}

function drawAsk(random: Random, subject: Subject): Ask {
  const sampled = random.chance(0.6);
  const params: SamplingOptions = {
    n: random.chance(0.25) ? random.between(2, 3) : 1,
    maxTokens: random.between(1, subject.maxTokens),
    logprobs: random.between(0, 3),
    ignoreEos: random.chance(0.8),
    temperature: sampled ? random.pick([0.3, 1, 2.5]) : 0,
    ...(sampled ? { seed: random.between(0, 99), topP: random.pick([1, 0.9]), topK: random.pick([-1, 40]) } : {}),
    ...(random.chance(0.15) ? { repetitionPenalty: 1.3, presencePenalty: 0.5 } : {}),
    ...(random.chance(0.15) ? { promptLogprobs: random.between(0, 2) } : {}),
  };
  const rests = random.chance(0.15);
  return {
    prompt: subject.prompt(random),
    params,
    request: {
      priority: random.chance(0.2) ? random.between(-1, 1) : 0,
      ...(random.chance(0.15) ? { cacheSalt: 'salt' } : {}),
      ...(rests ? { maxUnreadTokens: random.between(1, 4) } : {}),
    },
    delay: random.chance(0.6) ? 0 : random.between(0, 40),
    ...(rests ? { rest: random.between(1, 12) } : {}),
    ...(!rests && random.chance(0.15) ? { abortAfter: random.between(0, 6) } : {}),
  };
}

function drawOptions(
  random: Random,
  {
    longest,
    features,
    kvBytesPerToken,
    maxModelLen,
  }: { longest: number; features: number; kvBytesPerToken: number; maxModelLen: number },
): EngineOptions {
  const maxNumSeqs = random.pick([1, 2, 3, 5, 8, 16]);
  const blockSize = random.pick([1, 4, 16, 16, 16, 64]);
  // Little enough to preempt often; the longest request alone always fits.
  const blocks = Math.ceil(longest / blockSize) * random.pick([1, 1.2, 1.5, 2]) + random.between(0, 1);
  const chunked = random.chance(0.85);
  return {
    threads: random.pick([1, 2, 2, 3]),
    maxNumSeqs,
    blockSize,
    enablePrefixCaching: random.chance(0.75),
    enableChunkedPrefill: chunked,
    maxNumBatchedTokens: chunked ? Math.max(maxNumSeqs, random.pick([16, 33, 64, 200, 1024])) : maxModelLen,
    ...(random.chance(0.4)
      ? { numSpeculativeTokens: random.pick([1, 3, 8]), ngramPromptLookupMax: random.pick([2, 4]) }
      : {}),
    ...(random.chance(0.7) ? { kvCacheMemoryBytes: Math.ceil(blocks) * blockSize * kvBytesPerToken } : {}),
    // What one step reads together has to fit: where a prompt attends both ways that is every picture of the longest one.
    ...(features > 0 && random.chance(0.4) ? { encoderCacheBytes: features * random.pick([2, 3]) } : {}),
  };
}
