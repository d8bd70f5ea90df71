/** GOT-OCR2 and InternVL: the picture squashed to the grid of tiles that is nearest to its aspect, and the whole as a thumbnail. */
import { OcelliError } from '../../errors';
import { preprocessImage } from '../../media/native-image';
import type { Tensor } from '../../media/tensor';
import type { RawImage } from '../../media/types';
import { flag, positiveInteger, type ProcessorConfig } from './config';
import { int64, joinedViews, squashed, tilesBehind, type ViewSize } from './views';

/** pixelValues [views of all pictures, 3, height, width], each picture's tiles row by row, its thumbnail last; numPatches [n]. */
export async function gotOcr2(images: readonly RawImage[], config: ProcessorConfig): Promise<Record<string, Tensor>> {
  const tile = tileSize(config);
  const pictures = await Promise.all(
    images.map((image) => {
      const [rows, cols] = gotOcr2Grid(image.height, image.width, config);
      const whole = squashed(config, tile);
      if (rows * cols === 1) return preprocessImage(image, whole);
      const size = { width: cols * tile.width, height: rows * tile.height };
      const steps = [{ op: 'resize' as const, ...size, filter: config.filter }];
      return preprocessImage(image, tilesBehind(config, steps, tile, [rows, cols]), whole);
    }),
  );
  const counts = images.map((image) => gotOcr2Views(gotOcr2Grid(image.height, image.width, config)));
  return { pixelValues: joinedViews(pictures, tile), numPatches: int64([images.length], counts) };
}

/** Tiles, and the thumbnail where there is more than one. */
export function gotOcr2Views([rows, cols]: readonly [number, number]): number {
  return rows * cols === 1 ? 1 : rows * cols + 1;
}

function tileSize({ size: { height, width } }: ProcessorConfig): ViewSize {
  if (height !== undefined && width !== undefined) return { height, width };
  throw new OcelliError('ERR_PROCESSOR_CONFIG', 'Expected height and width for size', { details: { field: 'size' } });
}

/**
 * [rows, cols] of tiles: the nearest aspect among all grids of min_patches to max_patches tiles, by area; of two that are as near the
 * larger one where the picture fills half of it (transformers, image_processing_got_ocr2.py, get_optimal_tiled_canvas).
 */
export function gotOcr2Grid(height: number, width: number, config: ProcessorConfig): [rows: number, cols: number] {
  if (!flag(config.extra, 'crop_to_patches', false)) return [1, 1];
  const tile = tileSize(config);
  const ratio = width / height;
  let best: [number, number] = [1, 1];
  let least = Infinity;
  for (const [rows, cols] of gotOcr2Grids(config)) {
    const difference = Math.abs(ratio - cols / rows);
    const filled = width * height > 0.5 * tile.height * tile.width * rows * cols;
    if (difference < least || (difference === least && filled)) best = [rows, cols];
    least = Math.min(least, difference);
  }
  return best;
}

/** Every grid that a picture may become, by area; of one area the narrowest first. */
export function gotOcr2Grids({ extra }: ProcessorConfig): [rows: number, cols: number][] {
  const [least, most] = [positiveInteger(extra, 'min_patches'), positiveInteger(extra, 'max_patches')];
  if (least > most || most > 1024) {
    throw new OcelliError(
      'ERR_PROCESSOR_CONFIG',
      `Expected at least min_patches ${least} and at most 1024 for max_patches but received ${most}`,
      { details: { field: 'max_patches' } },
    );
  }
  const grids: [number, number][] = [];
  for (let cols = 1; cols <= most; cols++) {
    for (let rows = 1; rows * cols <= most; rows++) if (rows * cols >= least) grids.push([rows, cols]);
  }
  return grids.sort((a, b) => a[0] * a[1] - b[0] * b[1]);
}
