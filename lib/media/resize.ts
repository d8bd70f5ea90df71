import { loadNative, nativeError } from '../native';
import type { ResizeFilter } from './preprocess';
import { pixelsOf } from './raster';
import type { RawImage } from './types';

export interface ResizeOptions {
  /** Pillow 13 may run the vertical pass first; older Pillows never do. Default 'pillow13'. */
  order?: 'pillow13' | 'before13';
}

/** Resizes pixels with Pillow 13's arithmetic, byte for byte. */
export async function resizeImage(
  image: RawImage,
  width: number,
  height: number,
  filter: ResizeFilter,
  options: ResizeOptions = {},
): Promise<RawImage> {
  const { channels } = image;
  const pixels = pixelsOf(image);
  try {
    const out = await loadNative().resizeImage(
      pixels,
      image.width,
      image.height,
      channels,
      width,
      height,
      filter,
      options.order ?? 'pillow13',
    );
    return { width, height, channels, data: out };
  } catch (e) {
    throw nativeError(e);
  }
}
