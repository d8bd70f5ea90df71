/** decodeImage: any picture to RGB pixels, off the event loop. */
import { OcelliError } from '../errors';
import type { NativeRaster } from '../native';
import { decodeOffLoop } from './decode-pool';
import { rememberFile } from './hash';
import { checkDimensions, type ImageLimits } from './limits';
import { loadMedia, type LoadOptions } from './load';
import type { ImageInput, RawImage } from './types';

export interface DecodeOptions extends LoadOptions, ImageLimits {}

/** Gray repeated; alpha put on white, as for pixels that a caller hands over (a file's alpha is dropped instead). */
function toRgb({ width, height, channels, data }: RawImage): RawImage {
  const out = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += channels) {
    const alpha = channels === 4 ? data[from + 3]! : 255;
    for (let c = 0; c < 3; c++) {
      const value = data[channels === 1 ? from : from + c]!;
      out[to++] = alpha === 255 ? value : Math.floor((value * alpha + 255 * (255 - alpha)) / 255 + 0.5);
    }
  }
  return { width, height, channels: 3, data: out };
}

/**
 * RGB pixels as transformers loads a path: the first frame, EXIF orientation applied, alpha dropped, no colour management.
 * @param raster takes the pixels of a file
 */
export async function decodeImage(
  input: ImageInput,
  options: DecodeOptions = {},
  raster?: NativeRaster,
): Promise<RawImage> {
  const media = await loadMedia(input, options);
  if (media.kind === 'tensor')
    throw new OcelliError('ERR_MEDIA_INVALID', 'Expected a picture to decode but received a tensor');
  const { maxPixels, maxSide, timeout, signal } = options;
  if (media.kind === 'pixels') {
    checkDimensions('raw', media.image.width, media.image.height, { maxPixels, maxSide });
    return media.image.channels === 3 ? media.image : toRgb(media.image);
  }
  const limits = Object.fromEntries(
    Object.entries({ maxPixels, maxSide, timeout }).filter(([, value]) => value !== undefined),
  );
  const { image, digest } = await decodeOffLoop(media.bytes, limits, signal, raster);
  rememberFile(image, digest);
  return image;
}
