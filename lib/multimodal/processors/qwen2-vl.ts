/** Qwen2-VL: the picture at its own resolution, as rows of patches in merge-block order. */
import { OcelliError } from '../../errors';
import { preprocessImage } from '../../media/native-image';
import { Tensor } from '../../media/tensor';
import type { RawImage } from '../../media/types';
import { normalisation } from './clip';
import { positiveInteger, type ProcessorConfig } from './config';

/** pixelValues [patches of all pictures, 3 * temporal * patch * patch]; imageGridThw [n, 3]: time, rows, columns in patches. */
export async function qwen2Vl(images: readonly RawImage[], config: ProcessorConfig): Promise<Record<string, Tensor>> {
  const { patch, merge, temporal } = patchSizes(config);
  const pictures = await Promise.all(
    images.map(async (image) => {
      const [rows, cols] = qwen2VlGrid(image.height, image.width, config);
      const [height, width] = [rows * patch, cols * patch];
      const data = await preprocessImage(image, {
        steps: config.doResize ? [{ op: 'resize', width, height, filter: config.filter }] : [],
        ...normalisation(config),
      });
      return { rows, cols, patches: mergeOrderedPatches(data, height, width, patch, merge, temporal) };
    }),
  );
  const length = pictures.reduce((n, p) => n + p.patches.length, 0);
  const pixels = new Float32Array(length);
  let offset = 0;
  for (const { patches } of pictures) {
    pixels.set(patches, offset);
    offset += patches.length;
  }
  const row = 3 * temporal * patch * patch;
  return {
    pixelValues: new Tensor('float32', [length / row, row], pixels),
    imageGridThw: new Tensor(
      'int64',
      [images.length, 3],
      BigInt64Array.from(pictures.flatMap((p) => [1n, BigInt(p.rows), BigInt(p.cols)])),
    ),
  };
}

function patchSizes({ extra }: ProcessorConfig): { patch: number; merge: number; temporal: number } {
  return {
    patch: positiveInteger(extra, 'patch_size'),
    merge: positiveInteger(extra, 'merge_size'),
    temporal: positiveInteger(extra, 'temporal_patch_size'),
  };
}

/** [rows, columns] of patches that a picture of this size becomes. */
export function qwen2VlGrid(height: number, width: number, config: ProcessorConfig): [rows: number, cols: number] {
  const { patch, merge } = patchSizes(config);
  const factor = patch * merge;
  const [h, w] = config.doResize ? smartResize(height, width, factor, ...pixelLimits(config)) : [height, width];
  if (h % factor === 0 && w % factor === 0) return [h / patch, w / patch];
  throw new OcelliError(
    'ERR_IMAGE_SIZE',
    `Expected sides that are multiples of ${factor} for a picture that is not resized but received ${width}x${height}`,
  );
}

/** Fewest and most pixels after the resize. min_pixels and max_pixels win over size, whose edges are pixel counts in newer files. */
export function pixelLimits({ size, extra }: ProcessorConfig): [min: number, max: number] {
  const limit = (own: string, edge: number | undefined): number =>
    extra[own] === undefined && edge !== undefined ? edge : positiveInteger(extra, own);
  return [limit('min_pixels', size.shortest_edge), limit('max_pixels', size.longest_edge)];
}

/**
 * [height, width] as multiples of `factor` within the limits, aspect roughly kept; half rounds to even
 * (transformers, models/qwen2_vl/image_processing_qwen2_vl.py, smart_resize).
 */
export function smartResize(
  height: number,
  width: number,
  factor: number,
  minPixels: number,
  maxPixels: number,
): [number, number] {
  const ratio = Math.max(height, width) / Math.min(height, width);
  if (!(ratio <= 200)) {
    throw new OcelliError(
      'ERR_IMAGE_ASPECT',
      `Expected an aspect ratio of at most 200 but received ${ratio.toFixed(1)} (${width}x${height})`,
    );
  }
  let h = roundHalfEven(height / factor) * factor;
  let w = roundHalfEven(width / factor) * factor;
  if (h * w > maxPixels) {
    const beta = Math.sqrt((height * width) / maxPixels);
    h = Math.max(factor, Math.floor(height / beta / factor) * factor);
    w = Math.max(factor, Math.floor(width / beta / factor) * factor);
  } else if (h * w < minPixels) {
    const beta = Math.sqrt(minPixels / (height * width));
    h = Math.ceil((height * beta) / factor) * factor;
    w = Math.ceil((width * beta) / factor) * factor;
  }
  return [h, w];
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest < 0.5) return floor;
  if (rest > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** CHW pixels to rows ordered (block row, block column, row in block, column in block); inside a row: channel, time, y, x. */
function mergeOrderedPatches(
  chw: Float32Array,
  height: number,
  width: number,
  patch: number,
  merge: number,
  temporal: number,
): Float32Array {
  const rows = height / patch;
  const cols = width / patch;
  const out = new Float32Array(rows * cols * 3 * temporal * patch * patch);
  let at = 0;
  for (let blockRow = 0; blockRow < rows; blockRow += merge) {
    for (let blockCol = 0; blockCol < cols; blockCol += merge) {
      for (let inside = 0; inside < merge * merge; inside++) {
        const top = (blockRow + Math.floor(inside / merge)) * patch;
        const left = (blockCol + (inside % merge)) * patch;
        for (let c = 0; c < 3; c++) {
          for (let t = 0; t < temporal; t++) {
            for (let y = 0; y < patch; y++, at += patch) {
              const from = (c * height + top + y) * width + left;
              out.set(chw.subarray(from, from + patch), at);
            }
          }
        }
      }
    }
  }
  return out;
}
