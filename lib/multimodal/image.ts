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

  /** Embeddings [n, F, H] are n pictures. */
  override countItems(data: unknown): number {
    if (isTensor(data)) return data.shape.length === 3 ? data.shape[0]! : 1;
    return super.countItems(data);
  }

  override split(data: unknown): unknown[] {
    if (isMapped(data)) return [data];
    const items: readonly unknown[] = Array.isArray(data) ? (data as unknown[]) : [data];
    return items.flatMap((t) => (isTensor(t) && t.shape.length === 3 ? unstack(t) : [t])).map((item) => [item]);
  }

  override async load(data: unknown, context?: LoadContext): Promise<unknown> {
    const one = async (item: unknown): Promise<unknown> =>
      isTensor(item) || isMapped(item) ? item : decodeShared(item as ImageInput, mediaPolicy(context));
    return Array.isArray(data) ? Promise.all(data.map(one)) : one(data);
  }

  override hash(data: unknown): Uint8Array[] | undefined {
    const items = imageItems(data);
    return items?.map((item) => hashImage(item));
  }

  /** RawImage or a list: the checkpoint's image processor. Tensors: `imageEmbeds` [n, F, H], or a list of [F, H] where F differs. */
  async defaultInputMapper(ctx: InputContext, data: unknown, kwargs: Kwargs): Promise<MultiModalKwargs> {
    if (isMapped(data)) return data instanceof MultiModalKwargs ? data : new MultiModalKwargs(data);
    const items: readonly unknown[] = Array.isArray(data) ? (data as unknown[]) : [data];
    if (items.length > 0 && items.every(isTensor)) {
      return new MultiModalKwargs({
        imageEmbeds: items.flatMap((t) => (t.shape.length === 3 ? unstack(t) : [checkEmbeds(t)])),
      });
    }
    const pictures = await Promise.all(
      items.map((item, i) => {
        if (isTensor(item) || item === null || (typeof item !== 'object' && typeof item !== 'string')) {
          throw new OcelliError(
            'ERR_IMAGE_TYPE',
            `Expected pictures only, or embeddings only, in multiModalData.image but received ${isTensor(item) ? 'embeddings' : typeof item} at index ${i}`,
            { details: { index: i } },
          );
        }
        return isRawImage(item) ? item : decodeImage(item as ImageInput);
      }),
    );
    const processor = await ImageProcessor.load(ctx.modelConfig.model);
    return new MultiModalKwargs(await processor.preprocess(pictures, kwargs));
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
  return (
    typeof data === 'object' &&
    data !== null &&
    (data instanceof MultiModalKwargs || isTensor((data as { pixelValues?: unknown }).pixelValues))
  );
}

function imageItems(data: unknown): Parameters<typeof hashImage>[0][] | undefined {
  const items: unknown[] = Array.isArray(data)
    ? data
    : isTensor(data) && data.shape.length === 3
      ? unstack(data)
      : [data];
  return items.every((item) => isTensor(item) || isRawImage(item))
    ? (items as Parameters<typeof hashImage>[0][])
    : undefined;
}
