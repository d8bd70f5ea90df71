import { createHash } from 'node:crypto';
import { isTensor, type Tensor } from './tensor';
import type { RawImage } from './types';

/**
 * Digests of the files that pictures were decoded from, made by the decode worker: a file is a tenth of its pixels, and hashing megabytes would
 * hold up the event loop.
 */
const fileDigests = new WeakMap<object, Uint8Array>();

export function digestOf(bytes: Uint8Array | Uint8ClampedArray): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}

/** Notes the digest of a picture's file. Keyed by the object: whoever changes its pixels makes another object. */
export function rememberFile(image: RawImage, digest: Uint8Array): void {
  fileDigests.set(image, digest);
}

/**
 * SHA-256 of one picture or embedding: domain, type, mode, sizes and digest of the bytes, each length-prefixed, so that no two different items
 * share a hash by concatenation. A decoded picture is its file, which decides its pixels: a domain of its own, since pixels handed over may
 * be any bytes, a file's too.
 * @param extra what else tells results apart: the processor's name and kwargs
 */
export function hashImage(item: RawImage | Tensor, extra = ''): Uint8Array {
  const hash = createHash('sha256');
  const field = (bytes: Uint8Array): void => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(bytes.byteLength));
    hash.update(length).update(bytes);
  };
  const text = (value: string): void => field(Buffer.from(value, 'utf8'));
  const file = fileDigests.get(item);
  const [kind, sizes] = isTensor(item)
    ? [`tensor:${item.dtype}`, item.shape.join('x')]
    : [`${file ? 'file' : 'pixels'}:${item.channels}`, `${item.width}x${item.height}`];
  text('ocelli.media.3');
  text(kind);
  text(sizes);
  field(file ?? digestOf(new Uint8Array(item.data.buffer, item.data.byteOffset, item.data.byteLength)));
  text(extra);
  return hash.digest();
}
