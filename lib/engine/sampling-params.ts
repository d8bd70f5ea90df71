/** How tokens are chosen (vLLM v0.6.3, vllm/sampling_params.py, SamplingParams; names in camelCase, its defaults). */
import { checkOptions, type Check } from '../config/options';
import { OcelliError } from '../errors';

export interface SamplingOptions {
  /** Outputs per prompt, 1 to 64. */
  n?: number;
  /** 0 takes the likeliest token. */
  temperature?: number;
  /** The smallest set of tokens whose probabilities reach it. */
  topP?: number;
  /** -1: all. */
  topK?: number;
  /** Least probability, relative to the likeliest token's. */
  minP?: number;
  /** Absent: the engine's seed and the request's number, or a random one. */
  seed?: number;
  stop?: string | readonly string[];
  stopTokenIds?: readonly number[];
  ignoreEos?: boolean;
  /** Default 16; in chat what the context leaves. */
  maxTokens?: number;
  minTokens?: number;
  /** The likeliest tokens reported beside each token, 0 to 20. */
  logprobs?: number;
  promptLogprobs?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  repetitionPenalty?: number;
  /** Added to the logits of these ids. */
  logitBias?: Readonly<Record<number, number>>;
  allowedTokenIds?: readonly number[];
  badWords?: readonly string[];
  includeStopStrInOutput?: boolean;
  skipSpecialTokens?: boolean;
  spacesBetweenSpecialTokens?: boolean;
  /** False: no text, ids only. */
  detokenize?: boolean;
}

const maxStops = 16;
const maxStopLength = 256;
const maxBias = 1024;

function number(min: number, max: number): Check {
  return {
    expected: `a number from ${min} to ${max}`,
    test: (v) => typeof v === 'number' && v >= min && v <= max,
  };
}

function integer(min: number, max: number): Check {
  return {
    expected: `an integer from ${min} to ${max}`,
    test: (v) => Number.isSafeInteger(v) && (v as number) >= min && (v as number) <= max,
  };
}

const boolean: Check = { expected: 'true or false', test: (v) => typeof v === 'boolean' };

const isTokenId = (v: unknown): boolean => Number.isSafeInteger(v) && (v as number) >= 0 && (v as number) < 2 ** 31;

function tokenIds(max: number): Check {
  return {
    expected: `a list of at most ${max} token ids`,
    test: (v) => Array.isArray(v) && v.length <= max && v.every(isTokenId),
  };
}

const isStopString = (v: unknown): boolean => typeof v === 'string' && v !== '' && v.length <= maxStopLength;

const checks: Record<keyof SamplingOptions, Check> = {
  n: integer(1, 64),
  temperature: number(0, 100),
  topP: {
    expected: 'a number above 0, at most 1',
    test: (v) => typeof v === 'number' && v > 0 && v <= 1,
  },
  topK: {
    expected: '-1 (all) or an integer of at least 1',
    test: (v) => v === -1 || (Number.isSafeInteger(v) && (v as number) >= 1 && (v as number) < 2 ** 31),
  },
  minP: number(0, 1),
  seed: integer(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
  stop: {
    expected: `a string, or at most ${maxStops} of them, of 1 to ${maxStopLength} characters`,
    test: (v) => isStopString(v) || (Array.isArray(v) && v.length <= maxStops && v.every(isStopString)),
  },
  stopTokenIds: tokenIds(1024),
  ignoreEos: boolean,
  maxTokens: integer(1, 2 ** 31 - 1),
  minTokens: integer(0, 2 ** 31 - 1),
  logprobs: integer(0, 20),
  promptLogprobs: integer(0, 20),
  presencePenalty: number(-2, 2),
  frequencyPenalty: number(-2, 2),
  repetitionPenalty: {
    expected: 'a number above 0, at most 2',
    test: (v) => typeof v === 'number' && v > 0 && v <= 2,
  },
  logitBias: {
    expected: `at most ${maxBias} token ids with biases from -100 to 100`,
    test: (v) =>
      typeof v === 'object' &&
      v !== null &&
      !Array.isArray(v) &&
      Object.keys(v).length <= maxBias &&
      Object.entries(v).every(
        ([id, bias]) =>
          /^\d{1,10}$/.test(id) && isTokenId(Number(id)) && typeof bias === 'number' && Math.abs(bias) <= 100,
      ),
  },
  allowedTokenIds: {
    expected: 'a list of at least one token id',
    test: (v) => Array.isArray(v) && v.length > 0 && v.length <= 1e6 && v.every(isTokenId),
  },
  badWords: {
    expected: 'a list of at most 1024 strings of at least one character',
    test: (v) => Array.isArray(v) && v.length <= 1024 && v.every((w) => typeof w === 'string' && w !== ''),
  },
  includeStopStrInOutput: boolean,
  skipSpecialTokens: boolean,
  spacesBetweenSpecialTokens: boolean,
  detokenize: boolean,
};

/** The options, checked; ERR_SAMPLING names the field, ERR_UNKNOWN_OPTION the nearest name. Absent fields stay absent. */
export class SamplingParams implements SamplingOptions {
  readonly n?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly seed?: number;
  readonly stop?: string | readonly string[];
  readonly stopTokenIds?: readonly number[];
  readonly ignoreEos?: boolean;
  readonly maxTokens?: number;
  readonly minTokens?: number;
  readonly logprobs?: number;
  readonly promptLogprobs?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly repetitionPenalty?: number;
  readonly logitBias?: Readonly<Record<number, number>>;
  readonly allowedTokenIds?: readonly number[];
  readonly badWords?: readonly string[];
  readonly includeStopStrInOutput?: boolean;
  readonly skipSpecialTokens?: boolean;
  readonly spacesBetweenSpecialTokens?: boolean;
  readonly detokenize?: boolean;

  constructor(options: SamplingOptions = {}) {
    const checked = checkOptions(options, checks, 'sampling parameters', 'ERR_SAMPLING');
    const { minTokens = 0, maxTokens, stop, detokenize } = checked;
    if (maxTokens !== undefined && minTokens > maxTokens) {
      throw new OcelliError(
        'ERR_SAMPLING',
        `Expected at most ${maxTokens} (maxTokens) for minTokens but received ${minTokens}`,
        { details: { option: 'minTokens' } },
      );
    }
    if (detokenize === false && stop !== undefined && stop.length > 0) {
      throw new OcelliError('ERR_SAMPLING', 'Expected no stop strings with detokenize: false, which makes no text', {
        hint: 'Use stopTokenIds.',
        details: { option: 'stop' },
      });
    }
    Object.assign(this, checked);
  }
}

/** Every field has its value: what a request runs with. */
export interface ResolvedSampling {
  n: number;
  temperature: number;
  topP: number;
  topK: number;
  minP: number;
  seed: number | undefined;
  stop: readonly string[];
  stopTokenIds: readonly number[];
  ignoreEos: boolean;
  maxTokens: number | undefined;
  minTokens: number;
  logprobs: number | undefined;
  promptLogprobs: number | undefined;
  presencePenalty: number;
  frequencyPenalty: number;
  repetitionPenalty: number;
  logitBias: Readonly<Record<number, number>>;
  allowedTokenIds: readonly number[];
  badWords: readonly string[];
  includeStopStrInOutput: boolean;
  skipSpecialTokens: boolean;
  detokenize: boolean;
}

/** @param defaults of generation_config.json, where the caller leaves a field out */
export function resolveSampling(options: SamplingOptions = {}, defaults: SamplingOptions = {}): ResolvedSampling {
  const p = options instanceof SamplingParams ? options : new SamplingParams(options);
  return {
    n: p.n ?? 1,
    temperature: p.temperature ?? defaults.temperature ?? 1,
    topP: p.topP ?? defaults.topP ?? 1,
    topK: p.topK ?? defaults.topK ?? -1,
    minP: p.minP ?? defaults.minP ?? 0,
    seed: p.seed,
    stop: typeof p.stop === 'string' ? [p.stop] : (p.stop ?? []),
    stopTokenIds: p.stopTokenIds ?? [],
    ignoreEos: p.ignoreEos ?? false,
    maxTokens: p.maxTokens ?? defaults.maxTokens,
    minTokens: p.minTokens ?? 0,
    logprobs: p.logprobs,
    promptLogprobs: p.promptLogprobs,
    presencePenalty: p.presencePenalty ?? 0,
    frequencyPenalty: p.frequencyPenalty ?? 0,
    repetitionPenalty: p.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
    logitBias: p.logitBias ?? {},
    allowedTokenIds: p.allowedTokenIds ?? [],
    badWords: p.badWords ?? [],
    includeStopStrInOutput: p.includeStopStrInOutput ?? false,
    skipSpecialTokens: p.skipSpecialTokens ?? true,
    detokenize: p.detokenize ?? true,
  };
}
