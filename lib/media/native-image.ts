/** The native pixel kernels, off the event loop. */
import { loadNative, nativeError } from '../native';
import type { RawPreprocessPlan } from './preprocess';
import { pixelsOf } from './raster';
import type { RawImage } from './types';

/** Runs a plan over one picture. */
export async function preprocessImage(image: RawImage, plan: RawPreprocessPlan): Promise<Float32Array> {
  try {
    return await loadNative().preprocessImage(pixelsOf(image), image.width, image.height, image.channels, plan);
  } catch (e) {
    throw nativeError(e);
  }
}
