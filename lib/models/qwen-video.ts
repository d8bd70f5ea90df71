/** Videos of Qwen2-VL, Qwen2.5-VL and Qwen3-VL: two frames to a patch, each pair placed in time. */
import type { Kwargs } from '../config/hooks';
import type { InputContext } from '../inputs/context';
import { Tensor } from '../media/tensor';
import type { RawImage } from '../media/types';
import { ImageProcessor } from '../multimodal';
import {
  countedFrames,
  patchSizes,
  pixelLimits,
  qwen2VlVideo,
  qwen2VlVideoGrid,
  type PatchGrid,
  type VideoLimits,
} from '../multimodal/processors/qwen2-vl';
import { videoFrames } from '../multimodal/video';
import { largestPicture } from './dynamic-resolution';
import { checkVideoRows, engineKwargs, framesPerSecond, maxVideoTokens, type LargestVideo } from './video-inputs';

/** What a class says of its family's videos. */
export interface QwenVideoTraits {
  readonly videoLimits: VideoLimits;
}

/** mmProcessorKwargs that change how many rows a picture or a video has, or when its frames are. */
export const qwenKwargs = { kwargs: ['minPixels', 'maxPixels', 'size', 'doResize', 'fps', 'maxVideoTokens'] };

/** All that the video mapper takes. */
export const qwenVideoKwargs = {
  kwargs: [...qwenKwargs.kwargs, 'resample', 'doRescale', 'rescaleFactor', 'doNormalize', 'imageMean', 'imageStd'],
};

const limitsOf = (ctx: InputContext): VideoLimits =>
  (ctx.modelConfig.modelClass as unknown as QwenVideoTraits).videoLimits;

const settingsOf = (ctx: InputContext, kwargs: Readonly<Kwargs>): ReturnType<ImageProcessor['config']> =>
  ImageProcessor.ofVideos(ctx.modelConfig).config(kwargs);

function gridOfVideo(ctx: InputContext, frames: readonly RawImage[], kwargs: Readonly<Kwargs>): PatchGrid {
  const { height, width } = frames[0]!;
  return qwen2VlVideoGrid(frames.length, height, width, settingsOf(ctx, kwargs), limitsOf(ctx));
}

/**
 * Where each frame has its own limits, as many of the largest ones as maxVideoTokens has room for, at least a pair. Where a video has them
 * as a whole, they are all there is: the most expensive number of frames is one that counts for less than the patches that it fills.
 * @param ofPicture tokens of the most expensive picture
 */
export function largestQwenVideo(ctx: InputContext, kwargs: Readonly<Kwargs>, ofPicture: number): LargestVideo {
  const config = settingsOf(ctx, kwargs);
  const { patch, merge, temporal } = patchSizes(config);
  const [fewest, most] = pixelLimits(config);
  const of = (frames: number, counted: number): LargestVideo => {
    const { height, width } = largestPicture(patch * merge, fewest / counted, most / counted);
    const [time, rows, cols] = qwen2VlVideoGrid(frames, height, width, config, limitsOf(ctx));
    return { frames, height, width, rows: (time * rows * cols) / merge ** 2 };
  };
  if (limitsOf(ctx) === 'frame') {
    const pairs = Math.max(1, Math.floor(maxVideoTokens(kwargs, ofPicture) / of(temporal, 1).rows));
    return of(pairs * temporal, 1);
  }
  const videos = Array.from({ length: 3 * temporal }, (_, i) => of(i + 1, countedFrames(i + 1, temporal).counted));
  return videos.reduce((best, video) => (video.rows > best.rows ? video : best));
}

/** time, rows and columns of a video's patches. ERR_VIDEO_FRAMES where it has more than memory was planned for. */
export function checkedVideoGrid(
  ctx: InputContext,
  frames: readonly RawImage[],
  kwargs: Readonly<Kwargs>,
  ofPicture: (kwargs: Readonly<Kwargs>) => number,
): PatchGrid {
  const { merge } = patchSizes(settingsOf(ctx, kwargs));
  const grid = gridOfVideo(ctx, frames, kwargs);
  const own = engineKwargs(ctx, qwenKwargs.kwargs);
  const [time, rows, cols] = grid;
  checkVideoRows((time * rows * cols) / merge ** 2, frames, largestQwenVideo(ctx, own, ofPicture(own)));
  return grid;
}

/** pixelValuesVideos, videoGridThw, and secondPerGridTs [1]: seconds from one pair of frames to the next. */
export async function mapQwenVideo(ctx: InputContext, data: unknown, kwargs: Kwargs): Promise<Record<string, Tensor>> {
  const frames = videoFrames(data);
  const config = settingsOf(ctx, kwargs);
  const seconds = patchSizes(config).temporal / framesPerSecond(kwargs);
  return {
    ...(await qwen2VlVideo(frames, gridOfVideo(ctx, frames, kwargs), config)),
    secondPerGridTs: new Tensor('float32', [1], Float32Array.of(seconds)),
  };
}

/** When a pair of frames is: the middle between its first and its last, of which a video that ends early has its last one. */
export function secondsOf(pair: number, frames: number, temporal: number, fps: number): number {
  const at = (frame: number): number => Math.min(frame, frames - 1) / fps;
  return (at(pair * temporal) + at(pair * temporal + temporal - 1)) / 2;
}
