import { createHash } from 'node:crypto';
import { OcelliError } from '../errors';
import type { Kwargs } from '../config/hooks';
import type { InputContext } from '../inputs/context';
import { decodeShared } from '../media/decode-cache';
import { hashImage } from '../media/hash';
import { isTensor, type Tensor } from '../media/tensor';
import { isRawImage, type ImageInput, type RawImage } from '../media/types';
import { mediaPolicy } from './image';
import type { RegistryModelConfig } from '../config/model-class';
import { MultiModalKwargs, joinRows } from './kwargs';
import { MultiModalPlugin, type LoadContext } from './plugin';
import { ImageProcessor } from './processors';

/**
 * A video is a list of frames; or embeddings in place of them, [rows, width] for all of it or a list with those of each frame; or keyword
 * tensors ({ videoEmbeds, videoGridThw }). A list of videos is several.
 */
export class VideoPlugin extends MultiModalPlugin {
  getDataKey(): string {
    return 'video';
  }

  override items(data: unknown): readonly unknown[] {
    return isNested(data) ? data : [data];
  }

  /** A video is a list already. */
  override split(data: unknown): unknown[] {
    return [...this.items(data)];
  }

  override async load(data: unknown, context?: LoadContext): Promise<unknown> {
    const frame = async (item: ImageInput): Promise<unknown> =>
      isTensor(item) ? item : decodeShared(item, mediaPolicy(context), context?.holds);
    const one = async (video: unknown): Promise<unknown> =>
      Array.isArray(video) ? Promise.all((video as ImageInput[]).map(frame)) : video;
    return isNested(data) ? Promise.all(data.map(one)) : one(data);
  }

  /** By content, frame by frame, in order. */
  override hash(data: unknown): Uint8Array[] | undefined {
    const videos = this.items(data);
    const hashable = (video: unknown): video is (RawImage | Tensor)[] =>
      Array.isArray(video) && video.every((frame) => isRawImage(frame) || isTensor(frame));
    if (!videos.every(hashable)) return undefined;
    return videos.map((frames) => {
      // Digests are all of one length: none runs into the next.
      const hash = createHash('sha256').update(`ocelli.video.1:${frames.length};`);
      for (const frame of frames) hash.update(hashImage(frame));
      return hash.digest();
    });
  }

  /** What is mapped already meets no model's mapper. */
  override async mapInput(modelConfig: RegistryModelConfig, data: unknown, kwargs: Kwargs): Promise<MultiModalKwargs> {
    const mapped = this.hasInputMapper(modelConfig.modelClass) ? mappedVideo(oneVideo(data)) : undefined;
    return mapped ? new MultiModalKwargs(mapped) : super.mapInput(modelConfig, data, kwargs);
  }

  /** Frames of one video through the checkpoint's image processor, where that gives every picture the same size: `pixelValuesVideos` [frames, C, H, W]. */
  async defaultInputMapper(ctx: InputContext, data: unknown, kwargs: Kwargs): Promise<MultiModalKwargs> {
    const mapped = await ImageProcessor.ofVideos(ctx.modelConfig).preprocess(framesOf(data) as ImageInput[], kwargs);
    if (Object.keys(mapped).length === 1 && mapped.pixelValues)
      return new MultiModalKwargs({ pixelValuesVideos: mapped.pixelValues });
    throw new OcelliError(
      'ERR_NO_DEFAULT_MAPPER',
      `Expected ${ctx.modelConfig.modelClass.name} to register its own video mapper: its image processor gives ${Object.keys(mapped).join(', ')}`,
      { hint: "MULTIMODAL_REGISTRY.registerInputMapper('video', mapper)" },
    );
  }

  defaultMaxMultimodalTokens(): number {
    return 4096;
  }
}

/** The one video that mappers are called with. */
function oneVideo(data: unknown): unknown {
  const [video, ...more] = isNested(data) ? data : [data];
  if (more.length > 0) {
    throw new OcelliError('ERR_VIDEO_TYPE', `Expected one video for the mapper but received ${more.length + 1}`, {
      hint: 'Map videos one by one, as the engine does, or register a mapper of your own.',
    });
  }
  return video;
}

function framesOf(data: unknown): readonly unknown[] {
  const video = oneVideo(data);
  if (Array.isArray(video)) return video as unknown[];
  throw new OcelliError(
    'ERR_VIDEO_TYPE',
    `Expected a list of frames for a video but received ${video === null ? 'null' : typeof video}`,
    { hint: 'Or embeddings: a tensor [rows, width], or { videoEmbeds, videoGridThw } where a family needs the grid.' },
  );
}

/** The keyword tensors of one video that is given as embeddings, or as a processor's output; undefined for frames. */
export function mappedVideo(video: unknown): Readonly<Record<string, Tensor>> | undefined {
  if (isMapped(video)) return video;
  const parts: readonly unknown[] = Array.isArray(video) ? video : [video];
  if (parts.length === 0 || !parts.every(isTensor)) return undefined;
  const [first] = parts;
  const odd = parts.find(
    (t) => t.dtype !== first!.dtype || t.shape.length < 2 || t.shape.at(-1) !== first!.shape.at(-1),
  );
  if (!odd) return { videoEmbeds: joinRows(parts) };
  throw new OcelliError(
    'ERR_IMAGE_EMBEDS',
    `Expected embeddings of one type and width, [rows, width], for the frames of a video but received ${odd.dtype} [${odd.shape.join(', ')}]`,
  );
}

function isMapped(video: unknown): video is Record<string, Tensor> {
  if (typeof video !== 'object' || video === null || isTensor(video)) return false;
  const { videoEmbeds, pixelValuesVideos } = video as Record<string, unknown>;
  return isTensor(videoEmbeds) || isTensor(pixelValuesVideos);
}

/** The decoded frames of one video, for models that join them: at least one, all of one size. */
export function videoFrames(data: unknown): readonly RawImage[] {
  const frames = framesOf(data);
  const [first] = frames;
  const refuse = (code: 'ERR_VIDEO_TYPE' | 'ERR_VIDEO_FRAMES', expected: string, received: string): never => {
    throw new OcelliError(code, `Expected ${expected} for a video but received ${received}`);
  };
  if (frames.length === 0) refuse('ERR_VIDEO_FRAMES', 'at least one frame', 'none');
  for (const [i, frame] of frames.entries()) {
    if (!isRawImage(frame)) return refuse('ERR_VIDEO_TYPE', 'decoded frames', `${typeof frame} at ${i}`);
    const { width, height } = first as RawImage;
    if (frame.width !== width || frame.height !== height)
      refuse('ERR_VIDEO_FRAMES', `frames of one size, ${width}x${height},`, `${frame.width}x${frame.height} at ${i}`);
  }
  return frames as readonly RawImage[];
}

function isNested(data: unknown): data is readonly unknown[] {
  return Array.isArray(data) && data.length > 0 && data.every((item) => Array.isArray(item) || isMapped(item));
}
