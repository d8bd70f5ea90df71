/** LLaVA-NeXT: the whole picture squashed to one tile, then the picture at its best resolution cut into tiles. */
import { OcelliError } from '../../errors';
import { preprocessImage } from '../../media/native-image';
import { Tensor } from '../../media/tensor';
import type { PixelStep } from '../../media/preprocess';
import type { RawImage } from '../../media/types';
import { stack } from '../kwargs';
import { normalisation, padToSquare } from './clip';
import type { ProcessorConfig } from './config';
import { paddedViews, squashed, tilesBehind } from './views';

/** pixelValues [n, 1 + most tiles, 3, tile, tile], pictures with fewer tiles padded with zero tiles; imageSizes [n, 2] height, width. */
export async function llavaNext(images: readonly RawImage[], config: ProcessorConfig): Promise<Record<string, Tensor>> {
  const pinpoints = gridPinpoints(config.extra.image_grid_pinpoints);
  const tile = tileSide(config);
  const pictures = await Promise.all(images.map((image) => tiles(image, config, pinpoints, tile)));
  return { pixelValues: paddedViews(pictures, { height: tile, width: tile }), imageSizes: imageSizes(images) };
}

/** LLaVA-OneVision: the same; with vision_aspect_ratio 'pad' each picture is one tile, padded to a square (several in one prompt). */
export async function llavaOnevision(
  images: readonly RawImage[],
  config: ProcessorConfig,
): Promise<Record<string, Tensor>> {
  if (config.extra.vision_aspect_ratio !== 'pad') return llavaNext(images, config);
  const tile = tileSide(config);
  const tiles = await Promise.all(
    images.map(async (image) => {
      const { width, height } = image;
      const steps: PixelStep[] = width === height ? [] : [padToSquare(width, height, config)];
      steps.push({ op: 'resize', width: tile, height: tile, filter: config.filter });
      return new Tensor(
        'float32',
        [1, 3, tile, tile],
        await preprocessImage(image, { steps, ...normalisation(config) }),
      );
    }),
  );
  return { pixelValues: stack(tiles), imageSizes: imageSizes(images) };
}

/** Of a video: each frame squashed to a tile, [frames, 3, tile, tile]. */
export async function llavaOnevisionFrames(frames: readonly RawImage[], config: ProcessorConfig): Promise<Tensor> {
  const tile = tileSide(config);
  const squashed = frames.map(async (frame) => {
    const steps: PixelStep[] = [{ op: 'resize', width: tile, height: tile, filter: config.filter }];
    return new Tensor('float32', [3, tile, tile], await preprocessImage(frame, { steps, ...normalisation(config) }));
  });
  return stack(await Promise.all(squashed));
}

function tileSide({ cropSize, size }: ProcessorConfig): number {
  const side = cropSize.height ?? size.shortest_edge ?? size.height;
  if (side !== undefined) return side;
  throw new OcelliError('ERR_PROCESSOR_CONFIG', 'Expected height for crop_size', { details: { field: 'crop_size' } });
}

/** [n, 2]: height, width. */
function imageSizes(images: readonly RawImage[]): Tensor {
  const sizes = BigInt64Array.from(images.flatMap((image) => [BigInt(image.height), BigInt(image.width)]));
  return new Tensor('int64', [images.length, 2], sizes);
}

/** The whole picture, then the tiles of its best resolution. */
function tiles(
  image: RawImage,
  config: ProcessorConfig,
  pinpoints: readonly (readonly [number, number])[],
  tile: number,
): Promise<Float32Array> {
  const [height, width] = selectBestResolution(image.height, image.width, pinpoints);
  const [newHeight, newWidth] = fittedSize(image.height, image.width, height, width);
  const size = { height: tile, width: tile };
  const [left, top] = [-Math.floor((width - newWidth) / 2), -Math.floor((height - newHeight) / 2)];
  const steps: PixelStep[] = [
    { op: 'resize', width: newWidth, height: newHeight, filter: config.filter },
    { op: 'crop', left, top, width, height },
  ];
  const grid = [Math.floor(height / tile), Math.floor(width / tile)] as const;
  return preprocessImage(image, squashed(config, size), tilesBehind(config, steps, size, grid));
}

/** Checked pinpoints, [height, width] each. */
export function gridPinpoints(value: unknown): readonly (readonly [number, number])[] {
  const valid =
    Array.isArray(value) &&
    value.length > 0 &&
    value.length <= 4096 &&
    value.every(
      (p) =>
        Array.isArray(p) &&
        p.length === 2 &&
        p.every((n) => typeof n === 'number' && Number.isSafeInteger(n) && n >= 1 && n <= 65536),
    );
  if (valid) return value as [number, number][];
  throw new OcelliError('ERR_PROCESSOR_CONFIG', 'Expected a list of [height, width] for image_grid_pinpoints', {
    details: { field: 'image_grid_pinpoints' },
  });
}

/**
 * The pinpoint with the greatest effective area, then the least waste, then the first one
 * (transformers, image_processing_utils.py, select_best_resolution). Sizes are [height, width].
 */
export function selectBestResolution(
  height: number,
  width: number,
  pinpoints: readonly (readonly [number, number])[],
): readonly [number, number] {
  let best = pinpoints[0]!;
  let bestEffective = -1;
  let leastWaste = Infinity;
  for (const pinpoint of pinpoints) {
    const [h, w] = pinpoint;
    const scale = Math.min(w / width, h / height);
    const effective = Math.min(Math.trunc(width * scale) * Math.trunc(height * scale), width * height);
    const waste = h * w - effective;
    if (effective > bestEffective || (effective === bestEffective && waste < leastWaste)) {
      best = pinpoint;
      bestEffective = effective;
      leastWaste = waste;
    }
  }
  return best;
}

/** [height, width] inside a target, aspect kept, the free side rounded up and capped. */
function fittedSize(height: number, width: number, targetHeight: number, targetWidth: number): [number, number] {
  const scaleWidth = targetWidth / width;
  const scaleHeight = targetHeight / height;
  return scaleWidth < scaleHeight
    ? [Math.min(Math.ceil(height * scaleWidth), targetHeight), targetWidth]
    : [targetHeight, Math.min(Math.ceil(width * scaleHeight), targetWidth)];
}
