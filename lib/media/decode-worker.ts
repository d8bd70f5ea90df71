/** The thread that decodes: one job at a time; its answer is a picture or an error's plain fields. */
import { getPriority, setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { OcelliError } from '../errors';
import { decodeBytes } from './decoders';
import { digestOf } from './hash';
import { loadNative } from '../native';
import type { DecodeAnswer, DecodeJob } from './decode-pool';
import { pixelsOf } from './raster';

function answer(job: DecodeJob): DecodeAnswer {
  try {
    const image = job.kind === 'decode' ? decodeBytes(job.bytes, job.limits, job.raster) : undefined;
    if (image && job.raster !== undefined && image.data.length > 0) {
      loadNative().fillRaster(job.raster, pixelsOf(image) as Uint8Array);
      image.data = new Uint8Array(0);
    }
    return { image, digest: digestOf(job.bytes) };
  } catch (e) {
    if (OcelliError.is(e)) return { error: { code: e.code, message: e.message, hint: e.hint, details: e.details } };
    // Fixed words: a decoder's own message may carry paths or addresses.
    return {
      error: {
        code: 'ERR_IMAGE_CORRUPT',
        message: 'Expected a valid picture but received one that its decoder failed on',
      },
    };
  }
}

// As the image threads (native/image/binding_jobs.cc): with fewer cores than threads, pictures must not make the event loop wait its
// turn. On Linux this is the thread's own; elsewhere it would be the host's.
if (process.platform === 'linux') {
  try {
    setPriority(Math.min(19, getPriority() + 5));
  } catch {
    // A sandbox that forbids it.
  }
}

parentPort?.on('message', (job: DecodeJob) => {
  const result = answer(job);
  parentPort!.postMessage(result, result.image ? [result.image.data.buffer as ArrayBuffer] : []);
});
