/** Decoded pictures by the bytes they came from: a picture asked about twice is decoded once. One store per process. */
import { createHash, webcrypto } from 'node:crypto';
import { decodeImage, type DecodeOptions } from './decode';
import { checkDimensions } from './limits';
import { loadMedia } from './load';
import type { ImageInput, RawImage } from './types';

const capacity = 64 * 2 ** 20;
/** Hashing takes about a millisecond per mebibyte: above this it goes to a thread of Node's own crypto. */
const hashInline = 2 ** 18;

const pictures = new Map<string, Promise<RawImage>>();
const sizes = new Map<string, number>();
let bytes = 0;

/** How many pictures were decoded, and how many were found. */
export const decodeCounts = { decodes: 0, hits: 0 };

/** decodeImage, its result shared with whoever asks about the same bytes: nobody may write to its pixels. */
export async function decodeShared(input: ImageInput, options: DecodeOptions = {}): Promise<RawImage> {
  const media = await loadMedia(input, options);
  if (media.kind === 'tensor' || media.kind === 'pixels')
    return decodeImage(media.kind === 'tensor' ? media.tensor : media.image, options);
  const key = await digest(media.bytes);
  options.signal?.throwIfAborted();
  const known = pictures.get(key);
  if (known) {
    decodeCounts.hits++;
    pictures.delete(key);
    pictures.set(key, known);
    const image = await known;
    checkDimensions('decoded', image.width, image.height, options);
    return image;
  }
  decodeCounts.decodes++;
  // Not under this request's signal: others may wait for the same picture.
  const { signal: _signal, ...shared } = options;
  const image = decodeImage(media.bytes, shared);
  pictures.set(key, image);
  image.then(
    ({ data }) => keep(key, image, data.byteLength),
    () => pictures.delete(key),
  );
  return image;
}

async function digest(data: Uint8Array): Promise<string> {
  if (data.byteLength <= hashInline) return createHash('sha256').update(data).digest('base64');
  return Buffer.from(await webcrypto.subtle.digest('SHA-256', data as Uint8Array<ArrayBuffer>)).toString('base64');
}

function keep(key: string, image: Promise<RawImage>, size: number): void {
  if (pictures.get(key) !== image) return;
  sizes.set(key, size);
  bytes += size;
  for (const oldest of pictures.keys()) {
    if (bytes <= capacity) break;
    const oldSize = sizes.get(oldest);
    // One that is still being decoded has no size yet.
    if (oldSize === undefined) continue;
    pictures.delete(oldest);
    sizes.delete(oldest);
    bytes -= oldSize;
  }
}
