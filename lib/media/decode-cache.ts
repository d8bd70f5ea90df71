/** Decoded pictures by the bytes they came from: a picture asked about twice is decoded once. One store per process. */
import { createHash, webcrypto } from 'node:crypto';
import { loadNative } from '../native';
import { decodeImage, type DecodeOptions } from './decode';
import { checkDimensions } from './limits';
import { loadMedia } from './load';
import { release } from './raster';
import type { ImageInput, RawImage } from './types';

const capacity = 64 * 2 ** 20;
/** Hashing takes about a millisecond per mebibyte: above this it goes to a thread of Node's own crypto. */
const hashInline = 2 ** 18;

const pictures = new Map<string, SharedPicture>();
let bytes = 0;

/** How many pictures were decoded, and how many were found. */
export const decodeCounts = { decodes: 0, hits: 0 };

/** A picture that is decoded, or will be. Its pixels are freed when the last who holds it lets go; the store is one of those. */
class SharedPicture {
  /** Bytes of its pixels; 0 while it is being decoded. */
  size = 0;
  private holders = 0;

  constructor(readonly image: Promise<RawImage>) {}

  hold(): void {
    this.holders++;
  }

  letGo(): void {
    if (--this.holders === 0) this.image.then(release, () => undefined);
  }
}

/** What one request holds of shared pictures. */
export class PictureHolds {
  private held: Set<SharedPicture> | undefined = new Set();

  add(picture: SharedPicture): void {
    if (!this.held || this.held.has(picture)) return;
    this.held.add(picture);
    picture.hold();
  }

  /** The request is done with all of them, and with those that are yet to come. */
  letGo(): void {
    for (const picture of this.held ?? []) picture.letGo();
    this.held = undefined;
  }
}

/**
 * decodeImage, its result shared with whoever asks about the same bytes: nobody may write to its pixels.
 * @param holds keep the pixels until they are let go; without, the picture is the caller's own
 */
export async function decodeShared(
  input: ImageInput,
  options: DecodeOptions = {},
  holds?: PictureHolds,
): Promise<RawImage> {
  const media = await loadMedia(input, options);
  if (media.kind === 'tensor' || media.kind === 'pixels')
    return decodeImage(media.kind === 'tensor' ? media.tensor : media.image, options);
  if (!holds) return decodeImage(media.bytes, options);
  const key = await digest(media.bytes);
  options.signal?.throwIfAborted();
  const known = pictures.get(key);
  if (known) {
    decodeCounts.hits++;
    pictures.delete(key);
    pictures.set(key, known);
    holds.add(known);
    const image = await known.image;
    checkDimensions('decoded', image.width, image.height, options);
    return image;
  }
  decodeCounts.decodes++;
  // Not under this request's signal: others may wait for the same picture.
  const { signal: _signal, ...shared } = options;
  const raster = loadNative().newRaster();
  const picture = new SharedPicture(decodeImage(media.bytes, shared, raster));
  pictures.set(key, picture);
  picture.hold();
  holds.add(picture);
  picture.image.then(
    ({ width, height }) => keep(key, picture, width * height * 3),
    () => {
      pictures.delete(key);
      // Its thread may still be at it.
      loadNative().releaseRaster(raster);
    },
  );
  return picture.image;
}

async function digest(data: Uint8Array): Promise<string> {
  if (data.byteLength <= hashInline) return createHash('sha256').update(data).digest('base64');
  return Buffer.from(await webcrypto.subtle.digest('SHA-256', data as Uint8Array<ArrayBuffer>)).toString('base64');
}

function keep(key: string, picture: SharedPicture, size: number): void {
  picture.size = size;
  bytes += size;
  for (const [oldest, shared] of pictures) {
    if (bytes <= capacity) break;
    // One that is still being decoded has no size yet.
    if (shared.size === 0) continue;
    pictures.delete(oldest);
    bytes -= shared.size;
    shared.letGo();
  }
}
