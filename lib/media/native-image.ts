/** The native pixel kernels, off the event loop. */
import { loadNative, nativeError } from '../native';
import type { RawPreprocessPlan } from './preprocess';
import { pixelsOf } from './raster';
import type { RawImage } from './types';

/** Runs plans over one picture: what each makes, one after the other. */
export async function preprocessImage(image: RawImage, ...plans: readonly RawPreprocessPlan[]): Promise<Float32Array> {
  try {
    return await loadNative().preprocessImage(pixelsOf(image), image.width, image.height, image.channels, plans);
  } catch (e) {
    throw nativeError(e);
  }
}
