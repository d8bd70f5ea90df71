import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import { decodeImage } from '../media/decode';
import { isTensor } from '../media/tensor';
import type { ImageInput } from '../media/types';
import { mediaPolicy } from './image';
import { MultiModalPlugin, type LoadContext } from './plugin';

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

  defaultInputMapper(ctx: InputContext): never {
    throw new OcelliError(
      'ERR_NO_DEFAULT_MAPPER',
      `Expected ${ctx.modelConfig.modelClass.name} to register its own video mapper: there is no default one`,
      {
        hint: "MULTIMODAL_REGISTRY.registerInputMapper('video', mapper)",
      },
    );
  }

  defaultMaxMultimodalTokens(): number {
    return 4096;
  }
}

function isNested(data: unknown): data is readonly (readonly ImageInput[])[] {
  return Array.isArray(data) && data.length > 0 && data.every((item) => Array.isArray(item));
}
