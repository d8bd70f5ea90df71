/** What a picture may cost, judged from its header before a raster exists. */
import { OcelliError } from '../errors';

export interface ImageLimits {
  /** Pixels of one picture; default 64 million. */
  maxPixels?: number;
  /** Pixels of one side; default 65,535. */
  maxSide?: number;
  /** Milliseconds that decoding one picture may take; default 20,000. */
  timeout?: number;
}

export const defaultLimits: Readonly<Required<ImageLimits>> = {
  maxPixels: 64_000_000,
  maxSide: 65_535,
  timeout: 20_000,
};

/** Checks what a header announces. */
export function checkDimensions(format: string, width: number, height: number, limits: ImageLimits): void {
  const { maxPixels, maxSide } = { ...defaultLimits, ...limits };
  if (!(width >= 1) || !(height >= 1)) {
    throw new OcelliError(
      'ERR_IMAGE_SIZE',
      `Expected at least one pixel for a ${format} picture but received ${width}x${height}`,
    );
  }
  if (width > maxSide || height > maxSide || width * height > maxPixels) {
    throw new OcelliError(
      'ERR_IMAGE_TOO_LARGE',
      `Expected at most ${maxPixels} pixels and ${maxSide} per side for a ${format} picture but received ${width}x${height}`,
      { hint: 'Scale the picture down; models see far fewer pixels.', details: { width, height, maxPixels, maxSide } },
    );
  }
}
