/** Hooks of Qwen2-VL, Qwen2.5-VL and Qwen3-VL: what a picture or video costs at most, dummy data, placeholders. */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import type { Tensor } from '../media/tensor';
import { ImageProcessor } from '../multimodal';
import { pixelLimits, qwen2VlGrid } from '../multimodal/processors/qwen2-vl';
import { largestPicture } from './dynamic-resolution';
import { expandImages, integersOf, type ImageRows } from './image-inputs';
import type { LlamaConfig } from './llama';
import { checkedVideoGrid, largestQwenVideo } from './qwen-video';
import type { Grid, QwenVisionConfig } from './qwen-vision';
import { dummyPicturesAndVideos, expandVideos, type VideoRows } from './video-inputs';

export interface QwenVlConfig<V extends QwenVisionConfig = QwenVisionConfig> {
  model_type: string;
  text_config: LlamaConfig;
  vision_config: V & {
    /** Qwen3-VL: blocks of the tower whose features later text layers take. */
    deepstack_visual_indexes?: readonly number[];
  };
  image_token_index: number;
  video_token_index: number;
}

/** How many layers of the text model take features, the first one included. */
export function featureLayers({ vision_config: vision }: QwenVlConfig): number {
  return 1 + (vision.deepstack_visual_indexes?.length ?? 0);
}

export const embedsWidth = (config: QwenVlConfig): number => featureLayers(config) * config.text_config.hidden_size;

/** Of a picture, or of a video. */
export function gridOf(tensors: Readonly<Record<string, Tensor>>, config: QwenVlConfig): Grid {
  const merge = config.vision_config.spatial_merge_size;
  const modality = (tensors.videoGridThw ?? tensors.videoEmbeds ?? tensors.pixelValuesVideos) ? 'video' : 'image';
  const given = tensors[`${modality}GridThw`];
  const grid = given === undefined ? [] : integersOf(given);
  const [time, rows, cols] = grid;
  if (grid.length === 3 && time! > 0 && rows! > 0 && cols! > 0 && rows! % merge === 0 && cols! % merge === 0)
    return [time!, rows!, cols!];
  throw new OcelliError(
    'ERR_IMAGE_SIZE',
    `Expected ${modality}GridThw [1, 3] (time, and rows and columns of patches in multiples of ${merge}) beside pixels or ${modality}Embeds but received ${given === undefined ? 'none' : `[${grid.join(', ')}]`}`,
    { hint: `Positions depend on the shape: give embeddings as { ${modality}Embeds, ${modality}GridThw }.` },
  );
}

export function featureRows([time, rows, cols]: Grid, config: QwenVlConfig): number {
  return (time * rows * cols) / config.vision_config.spatial_merge_size ** 2;
}

function largest(ctx: InputContext, kwargs: Readonly<Record<string, unknown>>): ReturnType<typeof largestPicture> {
  const { patch_size: patch, spatial_merge_size: merge } = ctx.getHfConfig<QwenVlConfig>().vision_config;
  return largestPicture(patch * merge, ...pixelLimits(ImageProcessor.of(ctx.modelConfig).config(kwargs)));
}

export function getMaxQwenVlImageTokens(ctx: InputContext, kwargs: Readonly<Record<string, unknown>>): number {
  const { rows, cols } = largest(ctx, kwargs);
  return rows * cols;
}

export function getMaxQwenVlVideoTokens(ctx: InputContext, kwargs: Readonly<Record<string, unknown>>): number {
  return largestQwenVideo(ctx, kwargs, getMaxQwenVlImageTokens(ctx, kwargs)).rows;
}

export function dummyDataForQwenVl(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
  kwargs: Readonly<Record<string, unknown>>,
): DummyData {
  const config = ctx.getHfConfig<QwenVlConfig>();
  const { height, width, rows, cols } = largest(ctx, kwargs);
  const picture = { height, width, tokens: rows * cols };
  return dummyPicturesAndVideos(seqLen, mmCounts, config, picture, largestQwenVideo(ctx, kwargs, rows * cols));
}

/** What is known of a request's pictures. */
export function pictureRows(ctx: InputContext, kwargs: Readonly<Record<string, unknown>>): Omit<ImageRows, 'ofEmbeds'> {
  const config = ctx.getHfConfig<QwenVlConfig>();
  const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
  return {
    placeholderTokenId: config.image_token_index,
    width: embedsWidth(config),
    ofPicture: ({ height, width }) => featureRows([1, ...qwen2VlGrid(height, width, processor)], config),
    ofMapped: (tensors) => featureRows(gridOf(tensors, config), config),
  };
}

/** The same of its videos: their grids, and how many frames each has. */
export function videoRows(
  ctx: InputContext,
  kwargs: Readonly<Record<string, unknown>>,
): VideoRows<{ grid: Grid; frames: number }> {
  const config = ctx.getHfConfig<QwenVlConfig>();
  return {
    placeholderTokenId: config.video_token_index,
    width: embedsWidth(config),
    ofFrames: (frames) => ({
      grid: checkedVideoGrid(ctx, frames, kwargs, (own) => getMaxQwenVlImageTokens(ctx, own)),
      frames: frames.length,
    }),
    ofMapped: (tensors) => {
      const grid = gridOf(tensors, config);
      return { grid, frames: grid[0] * config.vision_config.temporal_patch_size };
    },
  };
}

export function inputProcessorForQwenVl(
  ctx: InputContext,
  inputs: LLMInputs,
  kwargs: Readonly<Record<string, unknown>>,
): LLMInputs {
  const config = ctx.getHfConfig<QwenVlConfig>();
  const expanded = expandImages(inputs, pictureRows(ctx, kwargs));
  const videos = videoRows(ctx, kwargs);
  return expandVideos(expanded, {
    ...videos,
    ofFrames: (frames) => featureRows(videos.ofFrames(frames).grid, config),
    ofMapped: (tensors) => featureRows(videos.ofMapped(tensors).grid, config),
  });
}
