/** The native pixel kernels, off the event loop. */
import { loadNative, nativeError } from '../native';
import type { RawPreprocessPlan } from './preprocess';
import type { RawImage } from './types';

/** Runs a plan over one picture. */
export async function preprocessImage(image: RawImage, plan: RawPreprocessPlan): Promise<Float32Array> {
  try {
    return await loadNative().preprocessImage(
      new Uint8Array(image.data.buffer, image.data.byteOffset, image.data.byteLength),
      image.width,
      image.height,
      image.channels,
      plan,
    );
  } catch (e) {
    throw nativeError(e);
  }
}
