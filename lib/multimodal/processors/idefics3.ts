/** Idefics3, SmolVLM: the picture enlarged or shrunk to a fixed longest side, cut into square tiles, and the whole as one more. */
import { OcelliError } from '../../errors';
import { preprocessImage } from '../../media/native-image';
import { resizeImage } from '../../media/resize';
import type { Tensor } from '../../media/tensor';
import type { RawImage } from '../../media/types';
import { flag, type ProcessorConfig, type Size } from './config';
import { int64, paddedViews, squashed, tilesBehind } from './views';

/** What a picture becomes: rows x cols tiles and the whole behind them; 0 x 0: the whole alone. */
export interface Idefics3Grid {
  rows: number;
  cols: number;
}

/** No side is longer than this after the first resize (transformers, image_processing_idefics3.py, MAX_IMAGE_SIZE). */
const longestSide = 4096;

/** pixelValues [n, most tiles, 3, tile, tile], the whole picture last, zeros behind it; rows and cols [n]. */
export async function idefics3(images: readonly RawImage[], config: ProcessorConfig): Promise<Record<string, Tensor>> {
  const side = tileSide(config);
  const tile = { height: side, width: side };
  const pictures = await Promise.all(
    images.map(async (image) => {
      const { first, second, grid } = idefics3Plan(image.height, image.width, config);
      let resized = image;
      // Each resize rounds to bytes, so two are not one.
      for (const size of [first, second]) {
        if (size) resized = await resizeImage(resized, size[1], size[0], config.filter);
      }
      const whole = squashed(config, tile);
      const { rows, cols } = grid;
      const plans = rows === 0 ? [whole] : [tilesBehind(config, [], tile, [rows, cols]), whole];
      return { grid, views: await preprocessImage(resized, ...plans) };
    }),
  );
  return {
    pixelValues: paddedViews(
      pictures.map((p) => p.views),
      tile,
    ),
    rows: int64(
      [images.length],
      pictures.map((p) => p.grid.rows),
    ),
    cols: int64(
      [images.length],
      pictures.map((p) => p.grid.cols),
    ),
  };
}

/** Pixels of a tile's side. */
export function tileSide({ extra }: ProcessorConfig): number {
  return longestEdge(extra.max_image_size as Size | undefined, 'max_image_size');
}

export function idefics3Grid(height: number, width: number, config: ProcessorConfig): Idefics3Grid {
  return idefics3Plan(height, width, config).grid;
}

/** The sizes [height, width] of both resizes; one that does not happen is absent. */
function idefics3Plan(
  height: number,
  width: number,
  config: ProcessorConfig,
): { first?: [number, number]; second?: [number, number]; grid: Idefics3Grid } {
  const first = config.doResize ? longestResized(height, width, longestEdge(config.size, 'size')) : undefined;
  if (!flag(config.extra, 'do_image_splitting', true))
    return { ...(first ? { first } : {}), grid: { rows: 0, cols: 0 } };
  const tile = tileSide(config);
  const [h, w] = first ?? [height, width];
  const up = (n: number): number => Math.ceil(n / tile) * tile;
  const ratio = w / h;
  const second: [number, number] =
    w >= h ? [up(Math.trunc(up(w) / ratio)), up(w)] : [up(h), up(Math.trunc(up(h) * ratio))];
  const [rows, cols] = [second[0] / tile, second[1] / tile];
  const grid = rows * cols === 1 ? { rows: 0, cols: 0 } : { rows, cols };
  return { ...(first ? { first } : {}), second, grid };
}

/** The longer side as said, the other by the aspect, cut off and made even. */
function longestResized(height: number, width: number, edge: number): [number, number] {
  const ratio = width / height;
  const even = (n: number): number => Math.max(1, n + (n % 2));
  const wide = width >= height;
  const size: [number, number] = wide ? [even(Math.trunc(edge / ratio)), edge] : [edge, even(Math.trunc(edge * ratio))];
  if (edge <= longestSide) return size;
  const limited = size[1] / size[0];
  return wide
    ? [Math.max(1, Math.trunc(longestSide / limited)), longestSide]
    : [longestSide, Math.max(1, Math.trunc(longestSide * limited))];
}

function longestEdge(size: Size | undefined, field: string): number {
  const edge = size?.longest_edge;
  if (typeof edge === 'number' && Number.isSafeInteger(edge) && edge >= 1 && edge <= 65536) return edge;
  throw new OcelliError(
    'ERR_PROCESSOR_CONFIG',
    `Expected { longest_edge } for ${field} but received ${JSON.stringify(size)}`,
    { details: { field } },
  );
}
