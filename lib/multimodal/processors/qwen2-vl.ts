/** Qwen2-VL: a picture, or a video's frames, at its own resolution, as rows of patches in merge-block order. */
import { OcelliError } from '../../errors';
import { preprocessImage } from '../../media/native-image';
import { Tensor } from '../../media/tensor';
import type { RawImage } from '../../media/types';
import { normalisation } from './clip';
import { positiveInteger, processorError, type ProcessorConfig } from './config';
import { joined } from './views';

/** pixelValues [patches of all pictures, 3 * temporal * patch * patch]; imageGridThw [n, 3]: time, rows, columns in patches. */
export async function qwen2Vl(images: readonly RawImage[], config: ProcessorConfig): Promise<Record<string, Tensor>> {
  const pictures = await Promise.all(
    images.map(async (image) => {
      const [rows, cols] = qwen2VlGrid(image.height, image.width, config);
      return { rows, cols, patches: await patchRows([image], [1, rows, cols], config) };
    }),
  );
  return {
    pixelValues: rowsOfPatches(joined(pictures.map((p) => p.patches)), config),
    imageGridThw: new Tensor(
      'int64',
      [images.length, 3],
      BigInt64Array.from(pictures.flatMap((p) => [1n, BigInt(p.rows), BigInt(p.cols)])),
    ),
  };
}

/** pixelValuesVideos [patches, 3 * temporal * patch * patch], frame by frame; videoGridThw [1, 3]: time, rows, columns in patches. */
export async function qwen2VlVideo(
  frames: readonly RawImage[],
  grid: PatchGrid,
  config: ProcessorConfig,
): Promise<{ pixelValuesVideos: Tensor; videoGridThw: Tensor }> {
  return {
    pixelValuesVideos: rowsOfPatches(await patchRows(frames, grid, config), config),
    videoGridThw: new Tensor('int64', [1, 3], BigInt64Array.from(grid, BigInt)),
  };
}

/** time, rows and columns of patches. */
export type PatchGrid = readonly [time: number, rows: number, cols: number];

function rowsOfPatches(pixels: Float32Array, config: ProcessorConfig): Tensor {
  const { patch, temporal } = patchSizes(config);
  const row = 3 * temporal * patch * patch;
  return new Tensor('float32', [pixels.length / row, row], pixels);
}

/**
 * Rows in the order of merged blocks; inside a row: channel, time, y, x. A patch is as many frames deep as `temporal` says; where frames are
 * missing, the last one stays.
 */
async function patchRows(
  frames: readonly RawImage[],
  [time, rows, cols]: PatchGrid,
  config: ProcessorConfig,
): Promise<Float32Array> {
  const { patch, merge, temporal } = patchSizes(config);
  const [height, width] = [rows * patch, cols * patch];
  const patchesOf = (image: RawImage, repeat: number): Promise<Float32Array> =>
    preprocessImage(image, {
      steps: config.doResize ? [{ op: 'resize', width, height, filter: config.filter }] : [],
      tiles: { width: patch, height: patch, rows, cols, square: merge, repeat },
      ...normalisation(config),
    });
  if (frames.length === 1) return patchesOf(frames[0]!, temporal);
  const pixels = await Promise.all(frames.map((image) => patchesOf(image, 1)));
  const plane = patch * patch;
  const planes = rows * cols * 3;
  const out = new Float32Array(time * temporal * planes * plane);
  for (let i = 0; i < time * temporal; i++) {
    const frame = pixels[Math.min(i, pixels.length - 1)]!;
    let at = (Math.floor(i / temporal) * temporal * planes + (i % temporal)) * plane;
    for (let p = 0; p < planes; p++, at += temporal * plane) out.set(frame.subarray(p * plane, (p + 1) * plane), at);
  }
  return out;
}

export function patchSizes({ extra }: ProcessorConfig): { patch: number; merge: number; temporal: number } {
  return {
    patch: positiveInteger(extra, 'patch_size'),
    merge: positiveInteger(extra, 'merge_size'),
    temporal: positiveInteger(extra, 'temporal_patch_size'),
  };
}

/** [rows, columns] of patches that a picture of this size becomes. @param frames of how many frames the limits count the pixels */
export function qwen2VlGrid(
  height: number,
  width: number,
  config: ProcessorConfig,
  frames?: CountedFrames,
): [rows: number, cols: number] {
  const { patch, merge } = patchSizes(config);
  const factor = patch * merge;
  const [h, w] = config.doResize ? smartResize(height, width, factor, ...pixelLimits(config), frames) : [height, width];
  if (h % factor === 0 && w % factor === 0) return [h / patch, w / patch];
  throw new OcelliError(
    'ERR_IMAGE_SIZE',
    `Expected sides that are multiples of ${factor} for a picture that is not resized but received ${width}x${height}`,
  );
}

/** What the limits on a video's pixels are of: each frame (Qwen2-VL, Qwen2.5-VL), or all of them together (Qwen3-VL). */
export type VideoLimits = 'frame' | 'video';

/** The patches of a video of `count` frames. */
export function qwen2VlVideoGrid(
  count: number,
  height: number,
  width: number,
  config: ProcessorConfig,
  limits: VideoLimits,
): PatchGrid {
  const { patch, merge, temporal } = patchSizes(config);
  const time = Math.ceil(count / temporal);
  if (limits === 'frame') return [time, ...qwen2VlGrid(height, width, config)];
  // A side that is shorter than a merged patch is brought to one, the other with it.
  const scale = config.doResize ? Math.max(1, (patch * merge) / height, (patch * merge) / width) : 1;
  const [h, w] = scale === 1 ? [height, width] : [Math.trunc(height * scale), Math.trunc(width * scale)];
  return [time, ...qwen2VlGrid(h, w, config, countedFrames(count, temporal))];
}

/** How many frames there are, and for how many their number is counted: a multiple of what a patch is deep, half to even. */
export interface CountedFrames {
  given: number;
  counted: number;
}

export function countedFrames(count: number, temporal: number): CountedFrames {
  const given = Math.max(count, temporal);
  return { given, counted: roundHalfEven(given / temporal) * temporal };
}

/** As many as a picture may have that is decoded. */
const mostPixels = 2 ** 26;

/** Fewest and most pixels after the resize. min_pixels and max_pixels win over size, whose edges are pixel counts in newer files. */
export function pixelLimits({ size, extra }: ProcessorConfig): [min: number, max: number] {
  const named = (own: string, edge: 'shortest_edge' | 'longest_edge'): [field: string, pixels: number] =>
    extra[own] === undefined && size[edge] !== undefined
      ? [`size.${edge}`, size[edge]]
      : [own, positiveInteger(extra, own)];
  const [[field, least], [other, most]] = [named('min_pixels', 'shortest_edge'), named('max_pixels', 'longest_edge')];
  if (most > mostPixels) throw processorError(other, `at most ${mostPixels} pixels`, most);
  if (least > most) throw processorError(field, `at most the ${most} of ${other}`, least);
  return [least, most];
}

const onePicture: CountedFrames = { given: 1, counted: 1 };

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
  { given, counted }: CountedFrames = onePicture,
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
  if (counted * h * w > maxPixels) {
    const beta = Math.sqrt((given * height * width) / maxPixels);
    h = Math.max(factor, Math.floor(height / beta / factor) * factor);
    w = Math.max(factor, Math.floor(width / beta / factor) * factor);
  } else if (counted * h * w < minPixels) {
    const beta = Math.sqrt(minPixels / (given * height * width));
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
