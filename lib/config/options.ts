import { OcelliError, nearestName, type OcelliErrorCode } from '../errors';
import { kindOf } from './json-file';

/** vLLM's engine options in camelCase. Bytes, milliseconds and counts; undefined means absent. */
export interface EngineOptions {
  /** 'dummy': random weights of the configuration's shapes. */
  loadFormat?: 'auto' | 'dummy';
  dtype?: 'auto' | 'float32' | 'bfloat16' | 'float16';
  /** A class in place of the one that config.json names; a text class takes the language model of a multimodal checkpoint alone. */
  architecture?: string;
  /** The vision tower and projector of a GGUF file; false: none, absent: the one `*mmproj*.gguf` beside it that fits. */
  mmproj?: string | false;
  /** LoRA adapters (PEFT folders), merged into the weights at load, one after the other. */
  lora?: string | readonly LoraAdapter[];
  quantization?: 'none' | 'int8' | 'int4' | (string & {});
  accuracy?: 'fast' | 'balanced' | 'exact';
  kvCacheDtype?: 'auto' | 'float32' | 'bfloat16' | 'int8';
  device?: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`;
  threads?: number;
  seed?: number;
  maxModelLen?: number;
  maxNumSeqs?: number;
  maxNumBatchedTokens?: number;
  blockSize?: number;
  gpuMemoryUtilization?: number;
  kvCacheMemoryBytes?: number;
  encoderCacheBytes?: number;
  enablePrefixCaching?: boolean;
  enableChunkedPrefill?: boolean;
  maxNumQueuedReqs?: number;
  maxNumQueuedTokens?: number;
  numSpeculativeTokens?: number;
  ngramPromptLookupMax?: number;
  traceFile?: string;
  limitMmPerPrompt?: Record<string, number>;
  mmProcessorKwargs?: Record<string, unknown>;
  skipProfileRun?: boolean;
  skipTokenizerInit?: boolean;
  chatTemplate?: string;
  allowedLocalMediaPath?: string;
  allowedMediaDomains?: readonly string[];
}

export interface LoraAdapter {
  /** A folder with adapter_config.json and adapter_model.safetensors. */
  path: string;
  /** Of what the adapter adds. Default: 1. */
  scale?: number;
}

export interface LoadOptions {
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
  revision?: string;
  cacheDir?: string;
  offline?: boolean;
}

export interface LoadProgress {
  phase: 'download' | 'read' | 'pack' | 'profile';
  loaded: number;
  total: number;
}

/** One field's rule: what is expected, in words and as a test. */
export type Check = { expected: string; test: (value: unknown) => boolean };

function oneOf(...names: string[]): Check {
  return { expected: names.map((n) => `'${n}'`).join(', '), test: (v) => typeof v === 'string' && names.includes(v) };
}

function integer(min: number, max = Number.MAX_SAFE_INTEGER): Check {
  const expected =
    max === Number.MAX_SAFE_INTEGER ? `an integer of at least ${min}` : `an integer from ${min} to ${max}`;
  return { expected, test: (v) => Number.isSafeInteger(v) && (v as number) >= min && (v as number) <= max };
}

const boolean: Check = { expected: 'true or false', test: (v) => typeof v === 'boolean' };
const string: Check = { expected: 'a string', test: (v) => typeof v === 'string' };
const filledString: Check = { expected: 'a non-empty string', test: (v) => typeof v === 'string' && v !== '' };
const powerOfTwo: Check = {
  expected: 'a power of two from 1 to 256',
  test: (v) => [1, 2, 4, 8, 16, 32, 64, 128, 256].includes(v as number),
};

const engineChecks: Record<keyof EngineOptions, Check> = {
  loadFormat: oneOf('auto', 'dummy'),
  dtype: oneOf('auto', 'float32', 'bfloat16', 'float16'),
  architecture: filledString,
  mmproj: { expected: 'a path, or false', test: (v) => v === false || (typeof v === 'string' && v !== '') },
  lora: {
    expected: 'a path, or a list of { path, scale } with finite scales',
    test: (v) => (typeof v === 'string' && v !== '') || (Array.isArray(v) && v.every(isLoraAdapter)),
  },
  quantization: oneOf('none', 'int8', 'int4'),
  accuracy: oneOf('fast', 'balanced', 'exact'),
  kvCacheDtype: oneOf('auto', 'float32', 'bfloat16', 'int8'),
  device: {
    expected: "'auto', 'cpu', 'cuda' or 'cuda:<number>'",
    test: (v) => typeof v === 'string' && /^(auto|cpu|cuda(:\d{1,3})?)$/.test(v),
  },
  threads: integer(1, 1024),
  seed: integer(0),
  maxModelLen: integer(1, 2 ** 30),
  maxNumSeqs: integer(1, 65536),
  maxNumBatchedTokens: integer(1, 2 ** 24),
  blockSize: powerOfTwo,
  gpuMemoryUtilization: {
    expected: 'a number above 0, at most 1',
    test: (v) => typeof v === 'number' && v > 0 && v <= 1,
  },
  kvCacheMemoryBytes: integer(1),
  encoderCacheBytes: integer(0),
  enablePrefixCaching: boolean,
  enableChunkedPrefill: boolean,
  maxNumQueuedReqs: integer(1),
  maxNumQueuedTokens: integer(1),
  numSpeculativeTokens: integer(0, 64),
  ngramPromptLookupMax: integer(2, 64),
  traceFile: filledString,
  limitMmPerPrompt: {
    expected: 'an object of modality names and counts of at least 0',
    test: (v) => isPlainObject(v) && Object.values(v).every((n) => Number.isSafeInteger(n) && (n as number) >= 0),
  },
  mmProcessorKwargs: { expected: 'an object', test: isPlainObject },
  skipProfileRun: boolean,
  skipTokenizerInit: boolean,
  chatTemplate: string,
  allowedLocalMediaPath: filledString,
  allowedMediaDomains: {
    expected: 'a list of host names',
    test: (v) => Array.isArray(v) && v.every((d) => typeof d === 'string' && d !== ''),
  },
};

const loadChecks: Record<keyof LoadOptions, Check> = {
  signal: {
    expected: 'an AbortSignal',
    test: (v) => typeof v === 'object' && v !== null && typeof (v as AbortSignal).aborted === 'boolean',
  },
  onProgress: { expected: 'a function', test: (v) => typeof v === 'function' },
  revision: filledString,
  cacheDir: filledString,
  offline: boolean,
};

/** The options without undefined ones; ERR_UNKNOWN_OPTION and ERR_OPTION name the field. */
export function checkEngineOptions(options: EngineOptions & LoadOptions = {}): EngineOptions & LoadOptions {
  return checkOptions(options, { ...engineChecks, ...loadChecks }, 'engine options');
}

/** The fields that are not undefined, each checked. @param code of a field that fails its check */
export function checkOptions<T extends object>(
  options: T,
  checks: Record<string, Check>,
  what: string,
  code: OcelliErrorCode = 'ERR_OPTION',
): T {
  if (!isPlainObject(options)) {
    throw new OcelliError(code, `Expected an object for the ${what} but received ${kindOf(options)}`);
  }
  const checked: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    const check = Object.hasOwn(checks, name) ? checks[name] : undefined;
    if (!check) {
      const nearest = nearestName(name, Object.keys(checks));
      throw new OcelliError('ERR_UNKNOWN_OPTION', `Expected a known name in the ${what} but received '${name}'`, {
        hint: nearest ? `Did you mean '${nearest}'?` : `Known: ${Object.keys(checks).join(', ')}.`,
        details: { option: name, ...(nearest ? { nearest } : {}) },
      });
    }
    if (value === undefined) continue;
    if (!check.test(value)) {
      throw new OcelliError(
        code,
        `Expected ${check.expected} for ${name} but received ${kindOf(value) ?? typeof value}`,
        {
          details: { option: name },
        },
      );
    }
    checked[name] = value;
  }
  return checked as T;
}

function isLoraAdapter(value: unknown): boolean {
  if (!isPlainObject(value)) return false;
  const { path, scale = 1, ...rest } = value;
  return typeof path === 'string' && path !== '' && Number.isFinite(scale) && Object.keys(rest).length === 0;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
