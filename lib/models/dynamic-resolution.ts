/** The most expensive picture of a model that takes pictures at their own resolution within limits (Qwen2-VL). */
import { smartResize } from '../multimodal/processors/qwen2-vl';

export interface LargestPicture {
  height: number;
  width: number;
  /** Rows and columns of merged patches. */
  rows: number;
  cols: number;
}

const largest = new Map<string, LargestPicture>();

/**
 * The true maximum of rows x columns over all pictures that are accepted. maxPixels / factor^2 is not it: a long thin picture is never
 * narrower than one factor, whatever maxPixels says, and a small one is enlarged with both sides rounded up.
 * @param factor pixels of a merged patch's side
 */
export function largestPicture(factor: number, minPixels: number, maxPixels: number): LargestPicture {
  const key = `${factor},${minPixels},${maxPixels}`;
  let found = largest.get(key);
  if (!found) largest.set(key, (found = search(factor, minPixels, maxPixels)));
  return found;
}

/** The longest side for a short one, by the processor's limit on the aspect ratio. */
const maxRatio = 200;

function search(factor: number, minPixels: number, maxPixels: number): LargestPicture {
  let best: LargestPicture = { height: 1, width: 1, rows: 0, cols: 0 };
  const attempt = (height: number, width: number): boolean => {
    if (height < 1 || width < height || width > maxRatio * height) return false;
    const [h, w] = smartResize(height, width, factor, minPixels, maxPixels);
    const [rows, cols] = [h / factor, w / factor];
    if (rows * cols <= best.rows * best.cols) return false;
    best = { height, width, rows, cols };
    return true;
  };
  // Pictures that keep their size: every number of rows, from the square down, with the most columns that maxPixels leaves; and as
  // low and as wide as rounding lets them.
  const most = Math.floor(maxPixels / factor ** 2);
  const half = Math.floor((factor - 1) / 2);
  for (let rows = Math.floor(Math.sqrt(most)); rows >= 1; rows--) {
    const cols = Math.floor(most / rows);
    attempt(rows * factor, cols * factor);
    attempt(rows * factor + half, cols * factor - half);
    attempt(rows * factor + half, Math.min(cols * factor + half, maxRatio * (rows * factor + half)));
  }
  // Pictures that are shrunk: the thinnest.
  const thin = Math.ceil(Math.sqrt(maxPixels / maxRatio)) + factor;
  attempt(thin, maxRatio * thin);
  // Pictures that are enlarged, to rows x columns with both rounded up: a picture of h x w has the sides sqrt(minPixels h / w) and
  // sqrt(minPixels w / h), so for each number of rows and columns the aspect ratios that give them are an interval.
  const area = minPixels / factor ** 2;
  for (let rows = 1; (rows - 1) ** 2 <= area; rows++) {
    const widest = rows === 1 ? Math.ceil(Math.sqrt(maxRatio * area)) : Math.ceil(area / (rows - 1));
    for (let cols = widest; rows * cols > best.rows * best.cols; cols--) {
      const low = Math.max((cols - 1) ** 2 / area, area / rows ** 2);
      const high = Math.min(cols ** 2 / area, rows === 1 ? maxRatio : area / (rows - 1) ** 2);
      if (low <= high && thinSides(low, high, factor, minPixels).some(([h, w]) => attempt(h, w))) break;
    }
  }
  return best;
}

/** Pictures that round to less than `pixels`, of an aspect ratio, width / height, from `low` to `high`: the first few of every height. */
function thinSides(low: number, high: number, factor: number, pixels: number): [height: number, width: number][] {
  const found: [number, number][] = [];
  for (let height = 1; Math.max(0, height - factor) ** 2 * low <= pixels; height++) {
    const first = Math.ceil(height * low);
    for (let width = first; width <= Math.min(height * high, first + 2); width++) found.push([height, width]);
  }
  return found;
}
