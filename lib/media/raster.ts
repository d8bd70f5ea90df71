/**
 * Decoded pictures whose pixels lie in native memory. Megabytes each in V8's buffers would have it collect several times a second, and
 * would be copied on the event loop before the image threads may read them.
 */
import { OcelliError } from '../errors';
import { loadNative, type NativeRaster } from '../native';
import type { RawImage } from './types';

const rasters = new WeakMap<object, NativeRaster>();

/** A picture of a filled raster. Whoever reads its `data` moves the pixels into an array: from then on it is like any other. */
export function rasterImage(raster: NativeRaster, width: number, height: number): RawImage {
  const image = { width, height, channels: 3 } as RawImage;
  const become = (data: RawImage['data']): void => {
    release(image);
    rasters.delete(image);
    Object.defineProperty(image, 'data', { value: data, writable: true, enumerable: true, configurable: true });
  };
  rasters.set(image, raster);
  return Object.defineProperty(image, 'data', {
    get: () => {
      const bytes = loadNative().rasterBytes(raster);
      if (!bytes) throw released();
      become(bytes);
      return bytes;
    },
    set: become,
    enumerable: true,
    configurable: true,
  });
}

export function isRaster(image: object): boolean {
  return rasters.has(image);
}

/** What native functions take for a picture's pixels. */
export function pixelsOf(image: RawImage): NativeRaster | Uint8Array {
  const raster = rasters.get(image);
  if (raster) return raster;
  const { data } = image;
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new OcelliError('ERR_IMAGE_SIZE', 'Expected a RawImage but received something else');
}

/** Frees the pixels of a picture that nobody will ask for any more; those that were read into an array are the collector's. */
export function release(image: RawImage): void {
  const raster = rasters.get(image);
  if (raster) loadNative().releaseRaster(raster);
}

function released(): OcelliError {
  return new OcelliError(
    'ERR_IMAGE_RELEASED',
    'Expected a picture that a request still holds but its pixels are gone',
    {
      hint: 'Read `data` before the mapper returns.',
    },
  );
}
