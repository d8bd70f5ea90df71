/** Qwen2-VL: the picture at its own resolution, as rows of patches in merge-block order. */
import { OcelliError } from '../../errors';
import { preprocessImage } from '../../media/native-image';
import { Tensor } from '../../media/tensor';
import type { RawImage } from '../../media/types';
import { normalisation } from './clip';
import { positiveInteger, type ProcessorConfig } from './config';

/** pixelValues [patches of all pictures, 3 * temporal * patch * patch]; imageGridThw [n, 3]: time, rows, columns in patches. */
export async function qwen2Vl(images: readonly RawImage[], config: ProcessorConfig): Promise<Record<string, Tensor>> {
  const patch = positiveInteger(config.extra, 'patch_size');
  const merge = positiveInteger(config.extra, 'merge_size');
  const temporal = positiveInteger(config.extra, 'temporal_patch_size');
  const pictures = await Promise.all(
    images.map(async (image) => {
      const [height, width] = config.doResize
        ? smartResize(image.height, image.width, patch * merge, ...pixelLimits(config))
        : [image.height, image.width];
      const data = await preprocessImage(image, {
        steps: config.doResize ? [{ op: 'resize', width, height, filter: config.filter }] : [],
        ...normalisation(config),
      });
      return {
        rows: height / patch,
        cols: width / patch,
        patches: mergeOrderedPatches(data, height, width, patch, merge, temporal),
      };
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

function pixelLimits({ size, extra }: ProcessorConfig): [number, number] {
  // size.shortest_edge and longest_edge are pixel counts in this family's newer files.
  const min = size.shortest_edge ?? positiveInteger(extra, 'min_pixels');
  const max = size.longest_edge ?? positiveInteger(extra, 'max_pixels');
  return [min, max];
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
