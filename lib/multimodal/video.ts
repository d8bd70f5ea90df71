import { OcelliError } from '../errors';
import type { Kwargs } from '../config/hooks';
import type { InputContext } from '../inputs/context';
import { decodeImage } from '../media/decode';
import { isTensor } from '../media/tensor';
import type { ImageInput } from '../media/types';
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
      Promise.all(list.map(async (frame) => (isTensor(frame) ? frame : decodeImage(frame, mediaPolicy(context)))));
    if (isNested(data)) return Promise.all(data.map(frames));
    return Array.isArray(data) ? frames(data as ImageInput[]) : data;
  }

  /** Frames of one video through the checkpoint's image processor, where that gives every picture the same size: `pixelValuesVideos` [frames, C, H, W]. */
  async defaultInputMapper(ctx: InputContext, data: unknown, kwargs: Kwargs): Promise<MultiModalKwargs> {
    if (isNested(data)) {
      if (data.length === 1) return this.defaultInputMapper(ctx, data[0], kwargs);
      throw new OcelliError('ERR_VIDEO_TYPE', `Expected one video for the default mapper but received ${data.length}`, {
        hint: 'Map videos one by one, as the engine does, or register a mapper of your own.',
      });
    }
    if (!Array.isArray(data)) {
      throw new OcelliError(
        'ERR_VIDEO_TYPE',
        `Expected a list of frames for a video but received ${data === null ? 'null' : typeof data}`,
      );
    }
    const mapped = await ImageProcessor.of(ctx.modelConfig).preprocess(data as ImageInput[], kwargs);
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

function isNested(data: unknown): data is readonly (readonly ImageInput[])[] {
  return Array.isArray(data) && data.length > 0 && data.every((item) => Array.isArray(item));
}
