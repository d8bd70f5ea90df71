/**
 * Any resolution by tiles, as in LLaVA-NeXT and LLaVA-OneVision: a picture is fitted into the best of several grids of tiles, the
 * features of the padding are cut off again, and one learned row ends each line. All of it is index arithmetic on sizes.
 */
import { OcelliError } from '../errors';
import { selectBestResolution } from '../multimodal/processors/llava-next';

export interface Anyres {
  /** [height, width] in pixels, multiples of `tile`. */
  pinpoints: readonly (readonly [number, number])[];
  /** Pixels of a tile's side. */
  tile: number;
  /** Features along a tile's side. */
  side: number;
  /** Above 1.1 times this many tiles of features the map is scaled down to them; absent: never. */
  maxTiles?: number;
}

/** The part of the feature map that shows the picture: rows and columns of features, of a map of `tileRows` x `tileCols` tiles. */
export interface AnyresMap {
  tileRows: number;
  tileCols: number;
  top: number;
  left: number;
  rows: number;
  cols: number;
}

/**
 * Padding is cut in whole rows on both sides alike. Sizes round as int(round(x, 7)), as the token counts of current processors do
 * (transformers, models/llava_next/modeling_llava_next.py, unpad_image; older code truncates and loses a row at some sizes).
 */
export function anyresMap(height: number, width: number, { pinpoints, tile, side }: Anyres): AnyresMap {
  const [bestHeight, bestWidth] = selectBestResolution(height, width, pinpoints);
  const [tileRows, tileCols] = [bestHeight / tile, bestWidth / tile];
  const map = { tileRows, tileCols, top: 0, left: 0, rows: tileRows * side, cols: tileCols * side };
  if (width / height > map.cols / map.rows) {
    map.top = Math.floor((map.rows - rounded(height * (map.cols / width))) / 2);
    map.rows -= 2 * map.top;
  } else {
    map.left = Math.floor((map.cols - rounded(width * (map.rows / height))) / 2);
    map.cols -= 2 * map.left;
  }
  return map;
}

function rounded(x: number): number {
  return Math.trunc(Number(x.toFixed(7)));
}

/** [rows, columns] of features that are left of the map: `maxTiles` scales them down. */
export function anyresShape(
  { rows, cols }: Pick<AnyresMap, 'rows' | 'cols'>,
  { side, maxTiles }: Anyres,
): [number, number] {
  if (maxTiles === undefined) return [rows, cols];
  const ratio = Math.sqrt((rows * cols) / (maxTiles * side ** 2));
  return ratio > 1.1 ? [wholes(rows, ratio), wholes(cols, ratio)] : [rows, cols];
}

/** How many whole `size` are in x, by its exact remainder: where x / size is rounded up to an integer its floor is one too many. */
function wholes(x: number, size: number): number {
  return Math.round((x - (x % size)) / size);
}

/** Rows of one picture: the whole picture as one tile, the map, and one for each of its lines. */
export function anyresTokens(height: number, width: number, anyres: Anyres): number {
  return tokensOf(anyresMap(height, width, anyres), anyres);
}

function tokensOf(map: Pick<AnyresMap, 'rows' | 'cols'>, anyres: Anyres): number {
  const [rows, cols] = anyresShape(map, anyres);
  return anyres.side ** 2 + rows * cols + rows;
}

/** A picture with the most rows that any picture can have. */
export interface LargestPicture {
  height: number;
  width: number;
  tokens: number;
}

const largest = new Map<string, LargestPicture>();

/**
 * The true maximum, by search: every map that cutting can leave is tried, the most expensive first, and the first one that some
 * picture leaves is the answer. A fixed picture would not do: what is worst depends on the pinpoints, and tall ones have more lines.
 */
export function largestPicture(anyres: Anyres): LargestPicture {
  const key = JSON.stringify(anyres);
  let found = largest.get(key);
  if (!found) largest.set(key, (found = search(anyres)));
  return found;
}

function search(anyres: Anyres): LargestPicture {
  const { pinpoints, tile, side } = anyres;
  const maps: { rows: number; cols: number; tokens: number; flat: boolean; pixels: number }[] = [];
  const put = (rows: number, cols: number, flat: boolean, pixels: number): void => {
    if (rows >= 0 && cols >= 0) maps.push({ rows, cols, flat, pixels, tokens: tokensOf({ rows, cols }, anyres) });
  };
  for (const [height, width] of pinpoints) {
    const [rows, cols] = [(height / tile) * side, (width / tile) * side];
    for (let cut = 0; cut <= rows; cut += 2) put(rows - cut, cols, true, width);
    for (let cut = 0; cut <= cols; cut += 2) put(rows, cols - cut, false, height);
  }
  for (const { rows, cols, tokens, flat, pixels } of maps.sort((a, b) => b.tokens - a.tokens)) {
    // A picture that leaves a map still leaves it when it is scaled to fit its pinpoint exactly, so pictures as long as the pinpoint
    // are enough, and of these the ones whose other side rounds to what is left of the map. Larger ones tell finer aspects apart.
    const [left, full] = flat ? [rows, cols] : [cols, rows];
    for (let long = pixels; long <= 4 * pixels; long += pixels) {
      const highest = Math.floor(((left + 1) / full) * long);
      for (let short = Math.max(1, Math.ceil(((left - 1) / full) * long - 1e-6)); short <= highest; short++) {
        const [height, width] = flat ? [short, long] : [long, short];
        const map = anyresMap(height, width, anyres);
        if (map.rows === rows && map.cols === cols) return { height, width, tokens };
      }
    }
  }
  throw new OcelliError(
    'ERR_CONFIG',
    'Expected at least one [height, width] for image_grid_pinpoints but received none',
    { details: { field: 'image_grid_pinpoints' } },
  );
}

/** The number of the feature in row y and column x of the part that shows the picture, among [1 + tiles, side * side] joined. */
export function featureOf(map: AnyresMap, { side }: Anyres, y: number, x: number): number {
  const [row, col] = [map.top + y, map.left + x];
  const tile = 1 + Math.floor(row / side) * map.tileCols + Math.floor(col / side);
  return tile * side ** 2 + (row % side) * side + (col % side);
}

/**
 * Which feature stands in each row of a picture's features. Features are [1 + tiles, side * side] joined, the whole picture first;
 * `newline` is the number of the row that ends a line.
 */
export function anyresIndex(map: AnyresMap, anyres: Anyres, newline: number): Int32Array {
  const { side } = anyres;
  const whole = side ** 2;
  const index = new Int32Array(whole + map.rows * map.cols + map.rows);
  let at = 0;
  for (; at < whole; at++) index[at] = at;
  for (let y = 0; y < map.rows; y++) {
    for (let x = 0; x < map.cols; x++) index[at++] = featureOf(map, anyres, y, x);
    index[at++] = newline;
  }
  return index;
}
