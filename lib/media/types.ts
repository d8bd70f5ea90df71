import { isRaster } from './raster';
import type { Tensor } from './tensor';

/** Pixels row by row, channels interleaved. */
export interface RawImage {
  width: number;
  height: number;
  channels: 1 | 3 | 4;
  data: Uint8Array | Uint8ClampedArray;
}

/** A path, http(s) or data URL; an encoded file; pixels; or embeddings [F, H], [n, F, H]. */
export type ImageInput = string | URL | Uint8Array | Blob | RawImage | Tensor;

export function isRawImage(value: unknown): value is RawImage {
  if (typeof value !== 'object' || value === null) return false;
  const image = value as Partial<RawImage>;
  return (
    typeof image.width === 'number' &&
    typeof image.height === 'number' &&
    (isRaster(value) || ArrayBuffer.isView(image.data)) &&
    'channels' in image
  );
}
