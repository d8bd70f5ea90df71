/** Videos of LLaVA-OneVision: each frame one tile, whose features are halved both ways; one newline ends the video. */
import type { Kwargs } from '../config/hooks';
import type { InputContext } from '../inputs/context';
import type { Tensor } from '../media/tensor';
import { ImageProcessor } from '../multimodal';
import { llavaOnevisionFrames } from '../multimodal/processors/llava-next';
import { videoFrames } from '../multimodal/video';
import { largestPicture, type Anyres } from './anyres';
import { Corners, centredPlaces } from './bilinear';
import { maxVideoTokens, type LargestVideo } from './video-inputs';

/** All mmProcessorKwargs that the mapper takes. */
export const onevisionVideoKwargs = {
  kwargs: [
    ...['visionAspectRatio', 'maxVideoTokens', 'size', 'resample'],
    ...['doRescale', 'rescaleFactor', 'doNormalize', 'imageMean', 'imageStd'],
  ],
};

/** pixelValuesVideos [frames, 3, tile, tile]. */
export async function mapOnevisionVideo(
  ctx: InputContext,
  data: unknown,
  kwargs: Kwargs,
): Promise<Record<string, Tensor>> {
  const config = ImageProcessor.ofVideos(ctx.modelConfig).config(kwargs);
  return { pixelValuesVideos: await llavaOnevisionFrames(videoFrames(data), config) };
}

/** As many frames as maxVideoTokens has room for, at least one. */
export function largestOnevisionVideo(anyres: Anyres, kwargs: Readonly<Kwargs>): LargestVideo {
  const frame = Math.ceil(anyres.side / 2) ** 2;
  const frames = Math.max(1, Math.floor((maxVideoTokens(kwargs, largestPicture(anyres).tokens) - 1) / frame));
  return { frames, height: anyres.tile, width: anyres.tile, rows: frames * frame + 1 };
}

/** Rows of a video, as corners among its frames' features, the middle ones blended, and the newline behind them. */
export function cornersOfVideo({ side }: Anyres, frames: number): Corners {
  const places = centredPlaces(side, Math.ceil(side / 2));
  const corners = new Corners(frames * places.length ** 2 + 1);
  let at = 0;
  for (let frame = 0; frame < frames; frame++)
    for (const y of places)
      for (const x of places) corners.blend(at++, y, x, (row, col) => (frame * side + row) * side + col);
  corners.copy(at, frames * side ** 2);
  return corners;
}
