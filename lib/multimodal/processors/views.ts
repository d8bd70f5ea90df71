/** Pictures that become several views of one size (tiles, crops, the whole), and how these lie in a tensor. */
import type { PixelStep, RawPreprocessPlan } from '../../media/preprocess';
import { Tensor } from '../../media/tensor';
import { normalisation } from './clip';
import type { ProcessorConfig } from './config';

export interface ViewSize {
  height: number;
  width: number;
}

/** A picture squashed to one view. */
export function squashed(config: ProcessorConfig, { height, width }: ViewSize): RawPreprocessPlan {
  return viewBehind(config, [{ op: 'resize', width, height, filter: config.filter }]);
}

export function viewBehind(config: ProcessorConfig, steps: readonly PixelStep[]): RawPreprocessPlan {
  return { steps, ...normalisation(config) };
}

/** A picture of cols x rows tiles behind `steps`, cut row by row. */
export function tilesBehind(
  config: ProcessorConfig,
  steps: readonly PixelStep[],
  tile: ViewSize,
  [rows, cols]: readonly [rows: number, cols: number],
): RawPreprocessPlan {
  return { steps, tiles: { ...tile, rows, cols }, ...normalisation(config) };
}

/** [n, most views, 3, height, width]: each picture's views, behind them zeros. */
export function paddedViews(pictures: readonly Float32Array[], { height, width }: ViewSize): Tensor {
  const size = 3 * height * width;
  const most = Math.max(...pictures.map((views) => views.length / size));
  const shape = [pictures.length, most, 3, height, width];
  return new Tensor('float32', shape, joined(pictures, most * size));
}

/** [views of all pictures, 3, height, width]. */
export function joinedViews(pictures: readonly Float32Array[], { height, width }: ViewSize): Tensor {
  const pixels = joined(pictures);
  return new Tensor('float32', [pixels.length / (3 * height * width), 3, height, width], pixels);
}

/** One after the other, each `room` long where that is said; a single one as it is, which for megabytes of tiles is the cost of all. */
export function joined(parts: readonly Float32Array[], room?: number): Float32Array {
  if (parts.length === 1) return parts[0]!;
  const pixels = new Float32Array(parts.reduce((n, part) => n + (room ?? part.length), 0));
  let at = 0;
  for (const part of parts) {
    pixels.set(part, at);
    at += room ?? part.length;
  }
  return pixels;
}

export function int64(shape: readonly number[], values: readonly number[]): Tensor {
  return new Tensor('int64', shape, BigInt64Array.from(values, BigInt));
}
