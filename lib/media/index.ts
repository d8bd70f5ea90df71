/** Pictures: loading, decoding, resizing. */
import { decodeImage as decode, type DecodeOptions } from './decode';
import type { ImageInput, RawImage } from './types';

export type { DecodeOptions };

/**
 * RGB pixels of any picture, as transformers loads a path: the first frame, EXIF orientation applied, alpha dropped.
 * The object is new, so that no digest is remembered for it: its caller may draw on it and ask about the result.
 */
export async function decodeImage(input: ImageInput, options: DecodeOptions = {}): Promise<RawImage> {
  return { ...(await decode(input, options)) };
}

export { resizeImage, type ResizeOptions } from './resize';
export { sniffImage, type ImageFormat, type ImageHeader } from './sniff';
export { type ImageLimits } from './limits';
export { type MediaPolicy } from './policy';
export { Tensor, type DType } from './tensor';
export type { ResizeFilter } from './preprocess';
export type { ImageInput, RawImage };
