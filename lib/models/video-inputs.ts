/** What families that take videos as frames share: the videos of a request, what they may cost, and their placeholders. */
import { selectKwargs, type Kwargs } from '../config/hooks';
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { isTensor, type Tensor } from '../media/tensor';
import type { RawImage } from '../media/types';
import { MULTIMODAL_REGISTRY } from '../multimodal';
import { repeatAndPadPlaceholderTokens } from '../multimodal/placeholders';
import { mappedVideo, videoFrames } from '../multimodal/video';
import { blackImage, checkPlaceholders, dummyItems, embeddingRows } from './image-inputs';

/** A video that costs the most that one may. */
export interface LargestVideo {
  frames: number;
  height: number;
  width: number;
  rows: number;
}

/** Index arrays are the same for a picture and a video, whose patches are inputs of their own. */
export const pictureAndVideoForms = (...indices: readonly string[]): readonly (readonly string[])[] => [
  ['pixelValues', ...indices],
  ['pixelValuesVideos', ...indices],
  ['imageEmbeds'],
  ['videoEmbeds'],
  [],
];

/** Whether the inputs of a form are a video's. */
export const isVideo = (inputs: { pixelValuesVideos?: unknown; videoEmbeds?: unknown }): boolean =>
  (inputs.pixelValuesVideos ?? inputs.videoEmbeds) !== undefined;

/** Dummy data with as many pictures and videos as are allowed, each as expensive as one can be. */
export function dummyPicturesAndVideos(
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
  tokens: { image_token_index: number; video_token_index: number },
  picture: { height: number; width: number; tokens: number },
  video: LargestVideo,
): DummyData {
  const image = { tokens: picture.tokens, item: blackImage(picture.width, picture.height) };
  const frames = new Array<RawImage>(video.frames).fill(blackImage(video.width, video.height));
  return dummyItems(seqLen, [
    { modality: 'image', count: mmCounts.image!, tokenId: tokens.image_token_index, ...image },
    { modality: 'video', count: mmCounts.video!, tokenId: tokens.video_token_index, tokens: video.rows, item: frames },
  ]);
}

/** What is known of the videos of a family, whatever they are given as. P: what a video's place in the prompt depends on. */
export interface VideoRows<P = number> {
  placeholderTokenId: number;
  /** Of a feature row: embeddings must be as wide. */
  width: number;
  ofFrames(frames: readonly RawImage[]): P;
  /** Of the keyword tensors of one video: a processor's output, or embeddings and what else is known of them. */
  ofMapped(tensors: Readonly<Record<string, Tensor>>): P;
}

/** What is known of each video of a request. */
export function videosOf<P>(inputs: LLMInputs, rows: VideoRows<P>): P[] {
  const data = inputs.multiModalData?.video ?? undefined;
  if (data === undefined) return [];
  const videos = MULTIMODAL_REGISTRY.getPlugin('video').items(data);
  return videos.map((video, index) => {
    const tensors = mappedVideo(video);
    if (!tensors) return rows.ofFrames(videoFrames(video));
    if (isTensor(tensors.videoEmbeds)) embeddingRows(tensors.videoEmbeds, rows.width, index, 'video');
    return rows.ofMapped(tensors);
  });
}

/** Each placeholder becomes as many as its video has rows. */
export function expandVideos(inputs: LLMInputs, rows: VideoRows): LLMInputs {
  const { placeholderTokenId } = rows;
  const videos = videosOf(inputs, {
    ...rows,
    ofMapped: (tensors) => tensors.videoEmbeds?.shape.at(-2) ?? rows.ofMapped(tensors),
  });
  // A placeholder without any video is refused where items are placed.
  if (videos.length === 0) return inputs;
  checkPlaceholders(inputs.promptTokenIds, placeholderTokenId, videos.length, 'video');
  const options = { placeholderTokenId, repeatCount: videos };
  const [, promptTokenIds] = repeatAndPadPlaceholderTokens(undefined, undefined, inputs.promptTokenIds, options);
  return { ...inputs, promptTokenIds };
}

/** The engine's own kwargs, which memory was planned by: a request's do not raise what an item may cost. */
export function engineKwargs(ctx: InputContext, names: readonly string[]): Kwargs {
  return selectKwargs({ kwargs: names }, ctx.modelConfig.multimodalConfig?.mmProcessorKwargs ?? {});
}

/** ERR_VIDEO_FRAMES where a video has more rows than memory was planned for. */
export function checkVideoRows(rows: number, frames: readonly RawImage[], largest: LargestVideo): void {
  if (rows <= largest.rows) return;
  const { width, height } = frames[0]!;
  throw new OcelliError(
    'ERR_VIDEO_FRAMES',
    `Expected a video of at most ${largest.rows} tokens but received ${frames.length} frames of ${width}x${height}, which are ${rows}`,
    {
      hint: 'Send fewer or smaller frames, lower maxPixels, or load the engine with a larger maxVideoTokens in mmProcessorKwargs.',
      details: { received: rows, maximum: largest.rows, frames: frames.length },
    },
  );
}

/** mmProcessorKwargs.maxVideoTokens; without it a video may cost what the most expensive picture does. */
export function maxVideoTokens(kwargs: Readonly<Kwargs>, ofPicture: number): number {
  return numberOf(kwargs, 'maxVideoTokens', ofPicture, 'a positive integer', Number.isSafeInteger);
}

/** mmProcessorKwargs.fps: how many of the frames that are given are a second; 2, as the families' own tools sample them. */
export function framesPerSecond(kwargs: Readonly<Kwargs>): number {
  return numberOf(kwargs, 'fps', 2, 'a positive number', Number.isFinite);
}

function numberOf(
  kwargs: Readonly<Kwargs>,
  field: string,
  otherwise: number,
  expected: string,
  test: (value: unknown) => boolean,
): number {
  const value = kwargs[field] ?? otherwise;
  if (typeof value === 'number' && value > 0 && test(value)) return value;
  throw new OcelliError(
    'ERR_MM_PROCESSOR_KWARGS',
    `Expected ${expected} for mmProcessorKwargs.${field} but received ${JSON.stringify(value)}`,
    { details: { field } },
  );
}
