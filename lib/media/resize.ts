import { loadNative, nativeError } from '../native';
import { OcelliError } from '../errors';
import type { ResizeFilter } from './preprocess';
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
  const { data, channels } = image;
  if (!ArrayBuffer.isView(data))
    throw new OcelliError('ERR_IMAGE_SIZE', 'Expected a RawImage to resize but received something else');
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  try {
    const out = await loadNative().resizeImage(
      bytes,
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
