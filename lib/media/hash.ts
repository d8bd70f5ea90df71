import { createHash } from 'node:crypto';
import { isTensor, type Tensor } from './tensor';
import type { RawImage } from './types';

/** Digests of pictures that the decode worker made: hashing megabytes would hold up the event loop. */
const digests = new WeakMap<object, Uint8Array>();

export function pixelDigest(bytes: Uint8Array | Uint8ClampedArray): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}

/** Notes the digest of a picture's pixels. Keyed by the object: whoever changes its pixels afterwards makes another picture. */
export function rememberDigest(image: RawImage, digest: Uint8Array): void {
  digests.set(image, digest);
}

/**
 * SHA-256 of one picture or embedding: domain, type, mode, sizes and digest of the bytes, each length-prefixed, so that no two different items
 * share a hash by concatenation.
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
  const [kind, sizes] = isTensor(item)
    ? [`tensor:${item.dtype}`, item.shape.join('x')]
    : [`pixels:${item.channels}`, `${item.width}x${item.height}`];
  text('ocelli.media.2');
  text(kind);
  text(sizes);
  field(digests.get(item) ?? pixelDigest(new Uint8Array(item.data.buffer, item.data.byteOffset, item.data.byteLength)));
  text(extra);
  return hash.digest();
}
