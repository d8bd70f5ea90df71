import { createHash } from 'node:crypto';
import { OcelliError } from '../errors';
import type { Kwargs } from '../config/hooks';
import type { InputContext } from '../inputs/context';
import { decodeShared } from '../media/decode-cache';
import { hashImage } from '../media/hash';
import { isTensor } from '../media/tensor';
import { isRawImage, type ImageInput, type RawImage } from '../media/types';
import { mediaPolicy } from './image';
import { MultiModalKwargs } from './kwargs';
import { MultiModalPlugin, type LoadContext } from './plugin';
import { ImageProcessor } from './processors';

/** Videos as lists of frames; one list is one video, a list of lists several. */
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
    const frames = async (list: readonly ImageInput[]): Promise<unknown[]> =>
      Promise.all(list.map(async (frame) => (isTensor(frame) ? frame : decodeShared(frame, mediaPolicy(context)))));
    if (isNested(data)) return Promise.all(data.map(frames));
    return Array.isArray(data) ? frames(data as ImageInput[]) : data;
  }

  /** By content, frame by frame, in order. */
  override hash(data: unknown): Uint8Array[] | undefined {
    const videos = this.items(data);
    const hashable = (video: unknown): video is RawImage[] => Array.isArray(video) && video.every(isRawImage);
    if (!videos.every(hashable)) return undefined;
    return videos.map((frames) => {
      // Digests are all of one length: none runs into the next.
      const hash = createHash('sha256').update(`ocelli.video.1:${frames.length};`);
      for (const frame of frames) hash.update(hashImage(frame));
      return hash.digest();
    });
  }

  /** Frames of one video through the checkpoint's image processor, where that gives every picture the same size: `pixelValuesVideos` [frames, C, H, W]. */
  async defaultInputMapper(ctx: InputContext, data: unknown, kwargs: Kwargs): Promise<MultiModalKwargs> {
    const mapped = await ImageProcessor.ofVideos(ctx.modelConfig).preprocess(oneVideo(data) as ImageInput[], kwargs);
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

/** The frames of the one video that mappers are called with. */
function oneVideo(data: unknown): readonly unknown[] {
  const [video, ...more] = isNested(data) ? data : [data];
  if (more.length > 0) {
    throw new OcelliError('ERR_VIDEO_TYPE', `Expected one video for the mapper but received ${more.length + 1}`, {
      hint: 'Map videos one by one, as the engine does, or register a mapper of your own.',
    });
  }
  if (Array.isArray(video)) return video as unknown[];
  throw new OcelliError(
    'ERR_VIDEO_TYPE',
    `Expected a list of frames for a video but received ${video === null ? 'null' : typeof video}`,
  );
}

/** The decoded frames of one video, for models that join them: at least one, all of one size. */
export function videoFrames(data: unknown): readonly RawImage[] {
  const frames = oneVideo(data);
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

function isNested(data: unknown): data is readonly (readonly ImageInput[])[] {
  return Array.isArray(data) && data.length > 0 && data.every((item) => Array.isArray(item));
}
