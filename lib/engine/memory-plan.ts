/** What an engine will hold in memory, term by term, before anything is allocated. */
import type { ModelConfig } from '../config/model-config';
import { OcelliError } from '../errors';
import type { EngineConfig, ModelOptions, NativeBinding, NativeDType } from '../native';
import type { ModelHooksOfClass } from '../models/hooks';
import type { TracedModel } from '../nn';
import type { ComputeDevice } from './device';
import type { EngineItemSize } from './item-size';
import type { OpenedWeights } from './open-weights';

/** Bytes and counts; every term of the arithmetic. */
export interface MemoryPlan {
  /** Packed weights in anonymous memory. Tensors that stay in the mapped checkpoint are not counted. */
  weights: number;
  /** The arena of the text model for `maxNumBatchedTokens` rows. */
  peakActivations: number;
  /** The arena of the encoder for the largest item of the registered dummy data. */
  encoderActivations: number;
  /** Picture features, kept by content. */
  encoderCache: number;
  kvBytesPerToken: number;
  kvBytesPerBlock: number;
  kvBlocks: number;
  /** Reserved; committed block by block as sequences grow. */
  kvCache: number;
  blockSize: number;
  /** Tokens that the KV cache holds. */
  kvTokens: number;
  total: number;
  /** What this process may still allocate: the machine's free memory, and no more than its cgroup leaves; or what is free on the GPU. */
  limit: number;
  maxModelLen: number;
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  /** The most tokens that the items of one prompt may cost. */
  maxMultiModalTokens: number;
  /** Sequences of the dummy batch: max(1, min(maxNumSeqs, floor(maxNumBatchedTokens / maxMultiModalTokens))). */
  profiledSequences: number;
}

const defaultMaxNumSeqs = 16;
const defaultMaxNumBatchedTokens = 2048;
const defaultBlockSize = 16;
/** Logits are planned for this many rows at least: prompt log-probabilities come in chunks of it. */
const minimumLogitRows = 32;
const defaultLookupMax = 4;
/** Tokens of text that a step has room for beside the pictures of a prompt that is one span. */
const spanText = 512;
const kvShare = 0.25;
/** Of a GPU's free memory: the driver and other programs take some, too. */
const defaultGpuMemoryUtilization = 0.9;
const minimumEncoderCache = 64 * 2 ** 20;

const kvTypes = { float32: 'f32', bfloat16: 'bf16', int8: 'i8' } as const;
const weightTypes = { float32: 'f32', bfloat16: 'bf16', float16: 'f16' } as const;

/** How activations meet quantised weights, as names of formats have it (core/quantize.h). */
const activations = { fast: '_rows', balanced: '', exact: '_exact' } as const;

/** What linear weights are packed in, and what plain tensors are that leave the mapping. */
export function weightFormat(config: ModelConfig): Pick<ModelOptions, 'format' | 'dtype'> {
  const dtype = weightTypes[config.dtype];
  const { quantization = 'none', accuracy = 'balanced' } = config.options;
  if (quantization === 'none') return { format: dtype, dtype };
  const bits = quantization === 'int8' ? 'i8' : 'i4';
  return { format: `${bits}${activations[accuracy]}`, dtype };
}

/**
 * @param device whose memory it is
 * @param items one per encoder: the largest item that the registered dummy data gives
 * @param maxTokens by modality: the most that the items of one prompt may cost
 * @param opened the checkpoint, where its types decide what stays in its mapping
 */
export function planMemory(
  native: NativeBinding,
  { backend, gpu }: ComputeDevice,
  config: ModelConfig,
  traced: TracedModel,
  programs: readonly string[],
  items: readonly EngineItemSize[],
  maxTokens: Readonly<Record<string, number>>,
  opened?: OpenedWeights,
): MemoryPlan {
  const { options } = config;
  const maxMultiModalTokens = Object.values(maxTokens).reduce((a, b) => a + b, 0);
  const threads = options.threads ?? native.info().cores;
  const blockSize = options.blockSize ?? defaultBlockSize;
  const maxModelLen = config.maxModelLen;
  const maxNumSeqs = options.maxNumSeqs ?? defaultMaxNumSeqs;
  const maxNumBatchedTokens = batchedTokens(config, maxNumSeqs, maxMultiModalTokens);

  const weights = native.weightBytes(opened?.checkpoint ?? null, {
    programs: [...programs],
    ...weightFormat(config),
    backend,
    threads,
    dummy: options.loadFormat === 'dummy',
    ...opened?.places,
  });
  // A model that takes pictures may be loaded for text alone.
  const featureBytes = traced.encoders.length === 0 ? 0 : traced.featureWidth * 4;
  const rows: Record<string, number> = {
    T: maxNumBatchedTokens,
    S: logitRows(maxNumSeqs, maxNumBatchedTokens),
    F: featureBytes === 0 ? 0 : maxNumBatchedTokens,
  };
  const peakActivations = native.programPeak(programs[0]!, backend, rows, threads);
  const encoderActivations = Math.max(
    0,
    ...items.map((item) => native.programPeak(programs[item.program]!, backend, item.symbols, threads)),
  );
  // A prompt that has all it may, or two with all of the most expensive modality: who sends no videos needs no more for them.
  const kept = Math.max(maxMultiModalTokens, ...Object.values(maxTokens).map((tokens) => 2 * tokens));
  const encoderCache =
    featureBytes === 0 ? 0 : (options.encoderCacheBytes ?? Math.max(minimumEncoderCache, kept * featureBytes));

  const kv = kvDtype(config);
  if (gpu && kv === 'i8') {
    throw new OcelliError(
      'ERR_OPTION',
      "Expected 'auto', 'float32' or 'bfloat16' for kvCacheDtype on a GPU but received 'int8'",
      {
        details: { option: 'kvCacheDtype' },
      },
    );
  }
  const kvBytesPerToken =
    traced.kvLayers * traced.kvHeads * (kvRowBytes(kv, traced.headDimK) + kvRowBytes(kv, traced.headDimV));
  const kvBytesPerBlock = kvBytesPerToken * blockSize;
  const limit = gpu
    ? Math.floor(gpu.freeBytes * (options.gpuMemoryUtilization ?? defaultGpuMemoryUtilization))
    : native.info().memory.available;
  // A step's features are gathered where the model runs.
  const stepFeatures = gpu ? maxNumBatchedTokens * featureBytes : 0;
  const fixed = weights + peakActivations + encoderActivations + encoderCache + stepFeatures;
  const wanted = Math.ceil(maxModelLen / blockSize) * maxNumSeqs;
  const room = options.kvCacheMemoryBytes ?? Math.min((gpu ? 1 : kvShare) * limit, limit - fixed);
  const blocks = kvBytesPerBlock === 0 ? wanted : Math.floor(room / kvBytesPerBlock);
  const kvBlocks = options.kvCacheMemoryBytes === undefined ? Math.min(wanted, blocks) : blocks;
  const plan: MemoryPlan = {
    weights,
    peakActivations,
    encoderActivations,
    encoderCache,
    kvBytesPerToken,
    kvBytesPerBlock,
    kvBlocks,
    kvCache: kvBlocks * kvBytesPerBlock,
    blockSize,
    kvTokens: kvBlocks * blockSize,
    total: fixed + kvBlocks * kvBytesPerBlock,
    limit,
    maxModelLen,
    maxNumSeqs,
    maxNumBatchedTokens,
    maxMultiModalTokens,
    profiledSequences: Math.max(
      1,
      Math.min(maxNumSeqs, Math.floor(maxNumBatchedTokens / Math.max(1, maxMultiModalTokens))),
    ),
  };
  if (kvBlocks < 1 || plan.total > limit) throw tooLittle(plan, gpu?.name);
  return plan;
}

function logitRows(maxNumSeqs: number, maxNumBatchedTokens: number): number {
  return Math.min(maxNumBatchedTokens, Math.max(maxNumSeqs, minimumLogitRows));
}

/** The engine's configuration under a plan. */
export function engineConfig(config: ModelConfig, traced: TracedModel, plan: MemoryPlan): EngineConfig {
  const { options } = config;
  return {
    maxNumSeqs: plan.maxNumSeqs,
    maxNumBatchedTokens: plan.maxNumBatchedTokens,
    maxModelLen: plan.maxModelLen,
    maxLogits: logitRows(plan.maxNumSeqs, plan.maxNumBatchedTokens),
    window: traced.window,
    draftTokens: options.numSpeculativeTokens ?? 0,
    lookupMax: options.ngramPromptLookupMax ?? defaultLookupMax,
    blockSize: plan.blockSize,
    kvBlocks: plan.kvBlocks,
    kvDtype: kvDtype(config),
    kvLayers: traced.kvLayers,
    kvHeads: traced.kvHeads,
    headDimK: traced.headDimK,
    headDimV: traced.headDimV,
    encoderCacheBytes: plan.encoderCache,
    enablePrefixCaching: options.enablePrefixCaching ?? true,
    enableChunkedPrefill: options.enableChunkedPrefill ?? true,
    positionAxes: traced.positionAxes,
    featureWidth: traced.featureWidth,
    vocabSize: traced.vocabSize,
    maxNumQueuedReqs: options.maxNumQueuedReqs ?? 0,
    textArenaBytes: plan.peakActivations,
    encoderArenaBytes: plan.encoderActivations,
    ...(options.traceFile === undefined ? {} : { traceFile: options.traceFile }),
  };
}

/** Half the bytes of float32 where the weights are bfloat16; float16 has a range that keys may leave. */
function kvDtype(config: ModelConfig): Extract<NativeDType, 'f32' | 'bf16' | 'i8'> {
  const option = config.options.kvCacheDtype ?? 'auto';
  if (option === 'auto') return config.dtype === 'bfloat16' ? 'bf16' : 'f32';
  return kvTypes[option];
}

/** Of one token and head, as native/core/step.h has them: quants of int8 stand behind their scale. */
function kvRowBytes(dtype: ReturnType<typeof kvDtype>, width: number): number {
  if (dtype === 'i8') return 4 + Math.ceil(width / 4) * 4;
  return width * (dtype === 'f32' ? 4 : 2);
}

function batchedTokens(config: ModelConfig, maxNumSeqs: number, maxMultiModalTokens: number): number {
  const { maxNumBatchedTokens: option, enableChunkedPrefill = true } = config.options;
  const { maxModelLen } = config;
  // Where a prompt is one span, a step has to hold its pictures and some text.
  const { wholePrompts = false } = config.modelClass as unknown as ModelHooksOfClass;
  const whole = wholePrompts ? Math.min(maxModelLen, maxMultiModalTokens + spanText) : 0;
  const bad = (least: number, why: string): OcelliError =>
    new OcelliError(
      'ERR_OPTION',
      `Expected at least ${least} (${why}) for maxNumBatchedTokens but received ${String(option)}`,
      { details: { option: 'maxNumBatchedTokens', minimum: least } },
    );
  if (option !== undefined) {
    if (!enableChunkedPrefill && option < maxModelLen) throw bad(maxModelLen, 'maxModelLen, as chunked prefill is off');
    if (option < maxNumSeqs) throw bad(maxNumSeqs, 'maxNumSeqs');
    if (wholePrompts && option <= maxMultiModalTokens)
      throw bad(maxMultiModalTokens + 1, 'the pictures of a prompt, which one step holds, and a token of text');
    return option;
  }
  if (!enableChunkedPrefill) return Math.max(maxModelLen, defaultMaxNumBatchedTokens, maxMultiModalTokens, maxNumSeqs);
  return Math.max(Math.min(maxModelLen, defaultMaxNumBatchedTokens), maxNumSeqs, whole);
}

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

function tooLittle(plan: MemoryPlan, gpu?: string): OcelliError {
  const terms = [
    `weights ${mebibytes(plan.weights)} (dtype)`,
    `activations ${mebibytes(plan.peakActivations)} (maxNumBatchedTokens ${plan.maxNumBatchedTokens})`,
    `encoder ${mebibytes(plan.encoderActivations)} (limitMmPerPrompt, mmProcessorKwargs)`,
    `encoder cache ${mebibytes(plan.encoderCache)} (encoderCacheBytes)`,
    `one KV block ${mebibytes(plan.kvBytesPerBlock)} (kvCacheMemoryBytes, blockSize)`,
  ];
  return new OcelliError(
    'ERR_MEMORY',
    `Expected memory for at least one sequence but ${mebibytes(plan.limit)} are free${gpu ? ` on ${gpu}` : ''} and the engine needs: ${terms.join(', ')}`,
    {
      hint: `Lower the option named beside the largest term, or ${gpu ? "choose device 'cpu'" : 'give the process more memory'}.`,
      details: { ...plan },
    },
  );
}
