/**
 * The typed contract of native/binding.cc: convert, check, hand over. Only lib/media, lib/multimodal and lib/engine import this.
 * Native errors arrive as `{ code, message, hint }`; `nativeError` makes the OcelliError.
 */
import { join } from 'node:path';
import { OcelliError, type OcelliErrorCode } from './errors';
import type { RawPreprocessPlan } from './media/preprocess';

/** Formats of linear weights: blocks of 32 in eight or four bits, activations by blocks or by rows (native/core/quantize.h). */
export type WeightFormat = 'f32' | 'bf16' | 'f16' | 'i8' | 'i4' | 'i8_rows' | 'i4_rows' | 'i8_exact' | 'i4_exact';

export type NativeDType = 'f32' | 'bf16' | 'f16' | 'i8' | 'u8' | 'i32' | 'i64';

/** Bytes are copied at the call. */
export interface NativeTensor {
  dtype: NativeDType;
  shape: number[];
  data: ArrayBufferView;
}

export interface NativeInfo {
  version: string;
  isa: string;
  isas: string[];
  cpu: string;
  features: string[];
  cores: number;
  memory: { total: number; available: number; limit: number; rssAnon: number };
}

declare const handle: unique symbol;
export interface CheckpointHandle {
  readonly [handle]: 'checkpoint';
}
export interface ModelHandle {
  readonly [handle]: 'model';
}
export interface EngineHandle {
  readonly [handle]: 'engine';
}
/** Pixels in native memory, which every thread of the process finds by their id. */
export interface NativeRaster {
  readonly [handle]: 'raster';
  readonly id: number;
}

type MetadataScalar = number | bigint | boolean | string;
export type MetadataValue = MetadataScalar | MetadataScalar[];

export interface CheckpointTensorInfo {
  name: string;
  dtype: string;
  shape: number[];
  file: number;
}

export interface ModelOptions {
  /** ProgramJson texts: [text] or [text, ...encoders]. */
  programs: string[];
  /** Part name (module path) -> checkpoint tensor name. */
  names: Record<string, string>;
  /** Checkpoint tensor name -> heads whose rows come in rope pairs, as llama.cpp stores q and k of Llama. */
  pairedHeads?: Record<string, number>;
  /** Checkpoint tensor name -> [rows, columns]: stored as such matrices, read transposed. */
  transposed?: Record<string, readonly [rows: number, columns: number]>;
  /** What adapters add to linear weights, in this order: scale * B A, in float32, before they are packed. */
  deltas?: { part: string; checkpoint: CheckpointHandle; a: string; b: string; scale: number }[];
  /** Of linear weights. */
  format: WeightFormat;
  /** Of plain tensors that are not taken from the mapping. */
  dtype: 'f32' | 'bf16' | 'f16';
  /** `cpu`, `ref`, one instruction set of cpu by its name, or `device:<number>` of a device that was opened. */
  backend: string;
  /** 0: as many as cores are available. */
  threads: number;
  dummy?: boolean;
  seed?: number;
}

/** For runOp of kv_store (which then returns [k, v]) and attention_paged: one layer of a KV cache and who owns which rows. */
export interface NativeStep {
  /** [blocks, kvHeads, blockSize, headDim], f32 or bf16. */
  k: NativeTensor;
  v: NativeTensor;
  sequences: number;
  maxBlocks: number;
  /** i32: [sequences + 1], [sequences], [sequences, maxBlocks], [rows], [rows]. */
  cuRows: NativeTensor;
  context: NativeTensor;
  blockTable: NativeTensor;
  slot: NativeTensor;
  hi: NativeTensor;
}

export interface RunResult {
  outputs: Record<string, NativeTensor>;
  taps: Record<string, NativeTensor>;
}

export interface EngineConfig {
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  maxModelLen: number;
  /** Rows of logits per step. */
  maxLogits: number;
  /** How far back every layer looks at most; 0: some layer sees everything. */
  window: number;
  /** Guesses per sequence and step, by lookup of at most `lookupMax` tokens. */
  draftTokens: number;
  lookupMax: number;
  blockSize: number;
  kvBlocks: number;
  kvDtype: 'f32' | 'bf16' | 'i8';
  kvLayers: number;
  kvHeads: number;
  headDimK: number;
  headDimV: number;
  encoderCacheBytes: number;
  enablePrefixCaching: boolean;
  enableChunkedPrefill: boolean;
  positionAxes: number;
  /** Width of a feature row; 0 for a text model. */
  featureWidth: number;
  vocabSize: number;
  maxNumQueuedReqs: number;
  textArenaBytes: number;
  encoderArenaBytes: number;
  traceFile?: string;
}

export interface EngineItem {
  /** SHA-256 of content and processor options: the encoder cache's key. */
  hash: Uint8Array;
  /** Which encoder program; -1: `features` are given (precomputed embeddings). */
  encoder: number;
  inputs: Record<string, NativeTensor>;
  /** Values of the encoder program's symbols. */
  symbols: Record<string, number>;
  features?: NativeTensor;
  /** Feature rows, = sum of range lengths. */
  rows: number;
  /** Placeholder ranges in the expanded prompt: start, length pairs. */
  ranges: Int32Array;
}

export interface EngineSampling {
  n: number;
  temperature: number;
  topP: number;
  topK: number;
  minP: number;
  seed: bigint;
  presencePenalty: number;
  frequencyPenalty: number;
  repetitionPenalty: number;
  maxTokens: number;
  minTokens: number;
  /** -1: none. */
  logprobs: number;
  promptLogprobs: number;
  stopTokenIds: Int32Array;
  eosTokenIds: Int32Array;
  ignoreEos: boolean;
  logitBias: [number, number][];
  allowedTokenIds: Int32Array;
  badWords: Int32Array[];
}

export interface EngineRequest {
  /** Chosen by JavaScript, unique per engine, < 2^31. */
  id: number;
  promptTokenIds: Int32Array;
  /** [positionAxes * T]; absent: 0..T-1. */
  positions?: Int32Array;
  /** [positionAxes], added to the index of each generated token; the least int32: the axis stays 0. Absent: 0. */
  positionDelta?: Int32Array;
  items: EngineItem[];
  /** start, length pairs that no chunk border may cut. */
  atomicSpans?: Int32Array;
  sampling: EngineSampling;
  priority: number;
  cacheSalt?: Uint8Array;
  /** Hidden rows become one vector in place of tokens: the last row, the mean of all, the first. */
  pooling?: 'last' | 'mean' | 'cls';
}

/**
 * One packed event per step: `data` is Float64Array records, each
 * [requestId, outputIndex, kind, token, logprob, rank, topCount, (token, logprob, rank) * topCount, extra]
 * kind 0: a token; 1: finished 'stop' by eos or stop id (token = stop id, or -1 when eos: extra = the id); 2: finished 'length';
 * 3: aborted; 4: failed (extra indexes `errors`); 5: prompt logprob of position `token`... (top list as for tokens; extra = the prompt token);
 * 6: first scheduled (extra = cached tokens); 7: a pooled hidden row, its numbers in the list's places (extra = how many), then a kind-2 record. A finishing token comes as a kind-0 record before its kind-1/2 record.
 */
export interface EngineEvent {
  data: Float64Array;
  errors: { code: string; message: string; hint?: string }[];
}

export interface NativeEngineStats {
  running: number;
  waiting: number;
  kvBlocksTotal: number;
  kvBlocksUsed: number;
  prefixCacheQueries: number;
  prefixCacheHits: number;
  encoderCacheHits: number;
  encoderCacheQueries: number;
  encoderCacheBytes: number;
  encoderRuns: number;
  draftTokens: number;
  acceptedTokens: number;
  preemptions: number;
  steps: number;
  promptTokens: number;
  generationTokens: number;
  stepSeconds: number;
  forwardSeconds: number;
  schedulerSeconds: number;
}

export interface NativeBinding {
  info(): NativeInfo;
  /** Opens a device by the library at `path`, once, and tells what is free on it now. */
  openDevice(path: string, ordinal: number): Promise<{ name: string; freeBytes: number }>;
  openCheckpoint(paths: string[]): Promise<CheckpointHandle>;
  checkpointTensors(checkpoint: CheckpointHandle): CheckpointTensorInfo[];
  /** Of a GGUF file, by its place in `paths`; a file of another format has none. */
  checkpointMetadata(checkpoint: CheckpointHandle, file: number): [key: string, value: MetadataValue][];
  /** Rows of a tensor of any type that is read, as stored; a vector is one row. */
  checkpointRows(checkpoint: CheckpointHandle, name: string, first: number, count: number): Float32Array;
  /** Packs on native threads. */
  createModel(
    checkpoint: CheckpointHandle | null,
    options: ModelOptions,
    onProgress?: (loaded: number, total: number) => void,
    signal?: { aborted: boolean },
  ): Promise<ModelHandle>;
  disposeModel(model: ModelHandle): void;
  /** Resident bytes of the weights without loading them; without a checkpoint, plain tensors are taken to stay in its mapping. */
  weightBytes(
    checkpoint: CheckpointHandle | null,
    options: Omit<ModelOptions, 'names'> & Partial<ModelOptions>,
  ): number;
  /** Peak arena bytes of a program for given sizes; checks every op. */
  programPeak(program: string, backend: string, symbols: Record<string, number>, threads: number): number;
  /** Shape of an output for given sizes. */
  programShape(program: string, output: string, symbols: Record<string, number>): number[];
  /** The same of a loaded model's program, without parsing it again; ERR_SHAPE where sizes do not fit. */
  modelShape(model: ModelHandle, program: number, output: string, symbols: Record<string, number>): number[];
  /** Runs one program once (tests, goldens). A text program gets a KV cache of its own, fed in chunks of `chunk` tokens when given. */
  runProgram(
    model: ModelHandle,
    program: number,
    inputs: Record<string, NativeTensor>,
    symbols: Record<string, number>,
    options?: { taps?: string[]; kvDtype?: 'f32' | 'bf16' | 'i8' },
  ): Promise<RunResult>;
  /**
   * Runs one op on one backend, for tests and measurements: `ref`, `baseline`, `avx2`, `avx512`, `amx`. `packed`: the format that operand 1 is packed
   * in; `seconds`: run as often as it has elements, and each run's time.
   */
  runOp(
    backend: string,
    op: string,
    inputs: (NativeTensor | null)[],
    outShapes: { dtype: NativeDType; shape: number[] }[],
    attrs: Record<string, number | string | number[]>,
    options?: { threads?: number; packed?: WeightFormat; step?: NativeStep; seconds?: Float64Array },
  ): NativeTensor[];
  createEngine(model: ModelHandle, config: EngineConfig, onEvent: (event: EngineEvent) => void): EngineHandle;
  /** All or none. An error of one request has its `index`. */
  engineSubmit(engine: EngineHandle, requests: readonly EngineRequest[]): void;
  /** Aborts a request, or one of its outputs; ids that are gone are passed over. */
  engineAbort(engine: EngineHandle, id: number, output?: number): void;
  /** A held request makes no tokens until it is let go; ids that are gone are passed over. */
  engineHold(engine: EngineHandle, id: number, held: boolean): void;
  engineStats(engine: EngineHandle): NativeEngineStats;
  /** Keeps the process alive (requests in flight) or not. */
  engineRef(engine: EngineHandle, referenced: boolean): void;
  /** Aborts all, joins the thread off the event loop. */
  engineDispose(engine: EngineHandle): Promise<void>;
  newRaster(): NativeRaster;
  /** Copies pixels into the raster of that id, made on another thread; nothing where that is gone or released. */
  fillRaster(id: number, pixels: Uint8Array): void;
  /** A copy of its pixels; undefined once released. */
  rasterBytes(raster: NativeRaster): Uint8Array | undefined;
  /** Frees the pixels as soon as no native thread reads them; of a large picture, their room is kept for the next one. */
  releaseRaster(raster: NativeRaster): void;
  /** Frees what is kept for the next large picture, of 64 MiB at most; nothing is kept until there is another. */
  freeSpareRaster(): void;
  resizeImage(
    pixels: Uint8Array | NativeRaster,
    width: number,
    height: number,
    channels: number,
    outWidth: number,
    outHeight: number,
    filter: string,
    order: 'pillow13' | 'before13',
  ): Promise<Uint8Array>;
  /**
   * Decodes `file` into `room`, [height, width, channels] from the returned place on, with the libjpeg-turbo at the path `library`. Room for
   * 2 MiB more than the picture lets it begin at a large page. Into the raster of that id where `room` is a number. Synchronous: for
   * threads that decode.
   */
  decodeJpegWith(
    library: string,
    file: Uint8Array,
    room: Uint8Array | number,
    width: number,
    height: number,
    channels: number,
  ): number | 'corrupt' | 'no library';
  /** What each plan makes of the picture, one after the other in one array. */
  preprocessImage(
    pixels: Uint8Array | NativeRaster,
    width: number,
    height: number,
    channels: number,
    plans: readonly RawPreprocessPlan[],
  ): Promise<Float32Array>;
}

let binding: NativeBinding | undefined;

/** Loads the addon at first use, so that importing the package never throws. */
export function loadNative(): NativeBinding {
  if (binding) return binding;
  const root = join(__dirname, '..');
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- node-gyp-build is a CommonJS loader of addons
    const load = require('node-gyp-build') as (folder: string) => NativeBinding;
    binding = load(root);
    return binding;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    // node --permission: nothing is missing, reading the package or loading addons is forbidden.
    const forbidden = code === 'ERR_ACCESS_DENIED' || code === 'ERR_DLOPEN_DISABLED';
    throw new OcelliError(
      'ERR_NO_NATIVE_BINARY',
      `Expected a native binary of ocelli for ${process.platform}-${process.arch} but none could be loaded: ${message.trim()}`,
      {
        hint: forbidden
          ? 'Start node with --allow-addons --allow-worker and --allow-fs-read for the package and /etc/alpine-release.'
          : 'Run `npx ocelli build`: it compiles one and names what is missing.',
        cause,
      },
    );
  }
}

/** What the addon threw or rejected with, as an error of the library; anything else as it is. */
export function nativeError(e: unknown, requestId?: string): unknown {
  if (typeof e !== 'object' || e === null || OcelliError.is(e)) return e;
  const { code, message, hint } = e as { code?: unknown; message?: unknown; hint?: unknown };
  if (typeof code !== 'string' || !code.startsWith('ERR_') || typeof message !== 'string') return e;
  return new OcelliError(code as OcelliErrorCode, message, {
    ...(typeof hint === 'string' && hint !== '' ? { hint } : {}),
    ...(requestId === undefined ? {} : { requestId }),
  });
}
