/** Pictures that become several views of one size (tiles, crops, the whole), and how these lie in a tensor. */
import { preprocessImage } from '../../media/native-image';
import type { PixelStep } from '../../media/preprocess';
import { Tensor } from '../../media/tensor';
import type { RawImage } from '../../media/types';
import { normalisation } from './clip';
import type { ProcessorConfig } from './config';

export interface ViewSize {
  height: number;
  width: number;
}

/** A picture squashed to one view. */
export function squashed(image: RawImage, config: ProcessorConfig, { height, width }: ViewSize): Promise<Float32Array> {
  return viewOf(image, config, [{ op: 'resize', width, height, filter: config.filter }]);
}

export function viewOf(image: RawImage, config: ProcessorConfig, steps: readonly PixelStep[]): Promise<Float32Array> {
  return preprocessImage(image, { steps, ...normalisation(config) });
}

/** A picture of cols x rows tiles behind `steps`, cut row by row. */
export function tilesOf(
  image: RawImage,
  config: ProcessorConfig,
  steps: readonly PixelStep[],
  tile: ViewSize,
  [rows, cols]: readonly [rows: number, cols: number],
): Promise<Float32Array> {
  return preprocessImage(image, { steps, tiles: { ...tile, rows, cols }, ...normalisation(config) });
}

/** [n, most views, 3, height, width]: each picture's views in order, behind them zeros. An entry may hold several views. */
export function paddedViews(pictures: readonly (readonly Float32Array[])[], { height, width }: ViewSize): Tensor {
  const size = 3 * height * width;
  const counts = pictures.map((views) => views.reduce((n, v) => n + v.length, 0) / size);
  const most = Math.max(...counts);
  const pixels = new Float32Array(pictures.length * most * size);
  pictures.forEach((views, i) => put(pixels, i * most * size, views));
  return new Tensor('float32', [pictures.length, most, 3, height, width], pixels);
}

/** [views of all pictures, 3, height, width]. */
export function joinedViews(pictures: readonly (readonly Float32Array[])[], { height, width }: ViewSize): Tensor {
  const views = pictures.flat();
  const pixels = new Float32Array(views.reduce((n, v) => n + v.length, 0));
  put(pixels, 0, views);
  return new Tensor('float32', [pixels.length / (3 * height * width), 3, height, width], pixels);
}

function put(pixels: Float32Array, at: number, views: readonly Float32Array[]): void {
  for (const view of views) {
    pixels.set(view, at);
    at += view.length;
  }
}

export function int64(shape: readonly number[], values: readonly number[]): Tensor {
  return new Tensor('int64', shape, BigInt64Array.from(values, BigInt));
}
