import { createHash } from 'node:crypto';
import { isTensor, type Tensor } from './tensor';
import type { RawImage } from './types';

/**
 * SHA-256 of one picture or embedding: domain, type, mode, sizes and bytes, each length-prefixed, so that no two different items
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
  text('ocelli.media.1');
  text(kind);
  text(sizes);
  field(new Uint8Array(item.data.buffer, item.data.byteOffset, item.data.byteLength));
  text(extra);
  return hash.digest();
}
