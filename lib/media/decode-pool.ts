/**
 * Threads that decode pictures: started at first use, referenced while they work, ended when idle. A picture that takes too
 * long, or crashes its decoder, costs its thread and its own request, nothing else.
 */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { OcelliError, type OcelliErrorCode } from '../errors';
import { loadNative, type NativeRaster } from '../native';
import { defaultLimits, type ImageLimits } from './limits';
import { rasterImage } from './raster';
import type { RawImage } from './types';

export interface DecodeJob {
  /** `digest`: the bytes are pixels already, only their hash is wanted. */
  kind: 'decode' | 'digest';
  bytes: Uint8Array<ArrayBuffer>;
  limits: ImageLimits;
  /** Where to leave the pixels; absent: in the answer. */
  raster?: number | undefined;
}

export interface DecodeAnswer {
  /** Without pixels where they were left in a raster. */
  image?: RawImage;
  digest?: Uint8Array;
  error?: { code: OcelliErrorCode; message: string; hint?: string; details?: Record<string, unknown> };
}

interface Waiting {
  job: DecodeJob;
  resolve: (answer: DecodeAnswer) => void;
  reject: (reason: unknown) => void;
}

const maxThreads = Math.min(2, availableParallelism());
const idleTime = 30_000;
// Rasters and codecs live outside V8's heap; what is inside is small.
const resourceLimits = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 32, stackSizeMb: 4 };

const waiting: Waiting[] = [];
const threads = new Set<DecodeThread>();
/** Only then is there anything native, and room that native code keeps. */
let fillsRasters = false;

class DecodeThread {
  private current?: Waiting;
  private deadline?: NodeJS.Timeout;
  private idle?: NodeJS.Timeout;
  private readonly worker: Worker;

  constructor() {
    const addon = process.env.OCELLI_PREBUILD;
    // Nothing of the host's flags, preloads or environment belongs in a decoder, but that it loads the same addon.
    this.worker = new Worker(join(__dirname, 'decode-worker.js'), {
      resourceLimits,
      execArgv: [],
      env: addon === undefined ? {} : { OCELLI_PREBUILD: addon },
      name: 'ocelli-decode',
    });
    this.worker.on('message', (answer: DecodeAnswer) => this.finish((job) => job.resolve(answer)));
    this.worker.on('error', () => this.fail(crashed()));
    this.worker.on('exit', () => this.fail(crashed()));
    threads.add(this);
  }

  get busy(): boolean {
    return this.current !== undefined;
  }

  start(next: Waiting): void {
    clearTimeout(this.idle);
    this.current = next;
    this.worker.ref();
    const timeout = next.job.limits.timeout ?? defaultLimits.timeout;
    this.deadline = setTimeout(() => this.fail(tooSlow(timeout)), timeout);
    this.worker.postMessage(next.job, [next.job.bytes.buffer]);
  }

  private finish(settle: (job: Waiting) => void): void {
    const job = this.current;
    this.current = undefined;
    clearTimeout(this.deadline);
    this.worker.unref();
    if (threads.has(this)) this.idle = setTimeout(() => this.end(), idleTime).unref();
    if (job) settle(job);
    dispatch();
  }

  private fail(error: OcelliError): void {
    this.end();
    this.finish((job) => job.reject(error));
  }

  private end(): void {
    clearTimeout(this.idle);
    if (threads.delete(this)) void this.worker.terminate();
    if (threads.size === 0 && fillsRasters) loadNative().freeSpareRaster();
  }
}

function crashed(): OcelliError {
  return new OcelliError('ERR_IMAGE_DECODER', 'Expected the picture to decode but its decoder ended', {
    hint: 'Re-encode the picture.',
  });
}

function tooSlow(timeout: number): OcelliError {
  return new OcelliError(
    'ERR_IMAGE_TIMEOUT',
    `Expected the picture to decode within ${timeout} ms but it takes longer`,
  );
}

function dispatch(): void {
  while (waiting.length > 0) {
    let thread = [...threads].find(({ busy }) => !busy);
    if (!thread && threads.size < maxThreads) thread = new DecodeThread();
    if (!thread) return;
    thread.start(waiting.shift()!);
  }
}

async function run(job: DecodeJob, signal?: AbortSignal): Promise<DecodeAnswer> {
  signal?.throwIfAborted();
  let onAbort: (() => void) | undefined;
  try {
    const answer = await new Promise<DecodeAnswer>((resolve, reject) => {
      const entry = { job, resolve, reject };
      onAbort = () => {
        // A picture that is being decoded is left to finish: it is bounded, and its answer goes nowhere.
        const at = waiting.indexOf(entry);
        if (at >= 0) waiting.splice(at, 1);
        reject(signal!.reason);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      waiting.push(entry);
      dispatch();
    });
    if (answer.error) throw new OcelliError(answer.error.code, answer.error.message, answer.error);
    return answer;
  } finally {
    if (onAbort) signal?.removeEventListener('abort', onAbort);
  }
}

/** Decodes a copy of `bytes`, into `raster` if given; also gives the SHA-256 of the bytes, which would hold up the event loop. */
export async function decodeOffLoop(
  bytes: Uint8Array,
  limits: ImageLimits,
  signal?: AbortSignal,
  raster?: NativeRaster,
): Promise<{ image: RawImage; digest: Uint8Array }> {
  fillsRasters ||= raster !== undefined;
  const job = { kind: 'decode' as const, bytes: new Uint8Array(bytes), limits, raster: raster?.id };
  const { image, digest } = await run(job, signal);
  return { image: raster ? rasterImage(raster, image!.width, image!.height) : image!, digest: digest! };
}

/** SHA-256 of a copy of `bytes`. */
export async function digestOffLoop(bytes: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
  const { digest } = await run({ kind: 'digest', bytes: new Uint8Array(bytes), limits: {} }, signal);
  return digest!;
}
