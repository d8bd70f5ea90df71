import { OcelliError } from '../errors';
import type { Kwargs } from '../config/hooks';
import type { InputContext } from '../inputs/context';
import { decodeImage } from '../media/decode';
import { decodeShared } from '../media/decode-cache';
import { hashImage } from '../media/hash';
import { isTensor, type Tensor } from '../media/tensor';
import { isRawImage, type ImageInput } from '../media/types';
import { MultiModalKwargs, unstack } from './kwargs';
import { MultiModalPlugin, type LoadContext } from './plugin';
import { ImageProcessor } from './processors';

/** The options of lib/media that a load context stands for. */
export function mediaPolicy(context: LoadContext | undefined): Parameters<typeof decodeImage>[1] {
  return { ...context };
}

/** Pictures: paths, URLs, bytes, pixels, or embeddings that take the encoder's place. */
export class ImagePlugin extends MultiModalPlugin {
  getDataKey(): string {
    return 'image';
  }

  /** Embeddings [n, F, H] are n pictures, alone or in a list. */
  override items(data: unknown): readonly unknown[] {
    return super.items(data).flatMap((item) => (isTensor(item) && item.shape.length === 3 ? unstack(item) : [item]));
  }

  override async load(data: unknown, context?: LoadContext): Promise<unknown> {
    const one = async (item: unknown): Promise<unknown> =>
      isTensor(item) || isMapped(item) ? item : decodeShared(item as ImageInput, mediaPolicy(context), context?.holds);
    return Array.isArray(data) ? Promise.all(data.map(one)) : one(data);
  }

  override hash(data: unknown): Uint8Array[] | undefined {
    const items = this.items(data);
    const hashable = (item: unknown): item is Parameters<typeof hashImage>[0] => isTensor(item) || isRawImage(item);
    return items.every(hashable) ? items.map((item) => hashImage(item)) : undefined;
  }

  /**
   * RawImage or a list: the checkpoint's image processor. Tensors: `imageEmbeds` [n, F, H], or a list of [F, H] where F differs.
   * A processor's own output passes through. Every element is looked at, not the first alone.
   */
  async defaultInputMapper(ctx: InputContext, data: unknown, kwargs: Kwargs): Promise<MultiModalKwargs> {
    const items = this.items(data);
    if (items.every(isMapped) && items.length > 0)
      return items.length === 1 ? new MultiModalKwargs(items[0]) : MultiModalKwargs.batch(items);
    if (items.every(isTensor) && items.length > 0) return new MultiModalKwargs({ imageEmbeds: items.map(checkEmbeds) });
    const pictures = await Promise.all(
      items.map((item, i) => {
        const kind = isTensor(item) ? 'embeddings' : isMapped(item) ? 'keyword tensors' : typeof item;
        if (item !== null && (kind === 'object' || kind === 'string'))
          return isRawImage(item) ? item : decodeImage(item as ImageInput);
        throw new OcelliError(
          'ERR_IMAGE_TYPE',
          `Expected pictures only, or embeddings only, in multiModalData.image but received ${item === null ? 'null' : kind} at index ${i}`,
          { details: { index: i } },
        );
      }),
    );
    return new MultiModalKwargs(await ImageProcessor.of(ctx.modelConfig).preprocess(pictures, kwargs));
  }

  defaultMaxMultimodalTokens(): number {
    return 3000;
  }
}

function checkEmbeds(tensor: Tensor): Tensor {
  if (tensor.shape.length === 2) return tensor;
  throw new OcelliError(
    'ERR_IMAGE_EMBEDS',
    `Expected image embeddings of shape [F, H] or [n, F, H] but received [${tensor.shape.join(', ')}]`,
  );
}

/** A processor's own output: keyword tensors already. */
function isMapped(data: unknown): data is Record<string, unknown> {
  if (typeof data !== 'object' || data === null || isTensor(data) || isRawImage(data)) return false;
  const { pixelValues, imageEmbeds } = data as Record<string, unknown>;
  return data instanceof MultiModalKwargs || isTensor(pixelValues) || isTensor(imageEmbeds);
}
