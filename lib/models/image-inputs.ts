/** What the input processors and dummy data of image models share. */
import { OcelliError } from '../errors';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { isTensor, type Tensor } from '../media/tensor';
import { isRawImage, type RawImage } from '../media/types';
import { MULTIMODAL_REGISTRY } from '../multimodal';
import { repeatAndPadPlaceholderTokens } from '../multimodal/placeholders';

export function blackImage(width: number, height: number): RawImage {
  return { width, height, channels: 3, data: new Uint8Array(width * height * 3) };
}

/** `count` pictures' placeholders, then zeros up to seqLen (vLLM v0.6.3, clip.py, dummy_seq_data_for_clip). */
export function dummyImages(
  seqLen: number,
  count: number,
  tokenId: number,
  tokens: number,
  image: RawImage,
): DummyData {
  const placeholders = new Array<number>(count * tokens).fill(tokenId);
  const padding = new Array<number>(Math.max(0, seqLen - placeholders.length)).fill(0);
  return {
    promptTokenIds: [...placeholders, ...padding],
    ...(count > 0 ? { multiModalData: { image: new Array<RawImage>(count).fill(image) } } : {}),
  };
}

/** How many rows the items of a family have, whatever they are given as. */
export interface ImageRows {
  placeholderTokenId: number;
  /** Of the text model: embeddings must be as wide. */
  width: number;
  ofPicture(picture: RawImage): number;
  /** Of a picture that a processor has mapped already: the keyword tensors of one item. */
  ofMapped(tensors: Readonly<Record<string, Tensor>>): number;
}

/** Each placeholder becomes as many as its picture has rows. Everything else of the request, its processor kwargs included, stays. */
export function expandImages(inputs: LLMInputs, rows: ImageRows): LLMInputs {
  const { placeholderTokenId } = rows;
  const data = inputs.multiModalData?.image ?? undefined;
  const images = data === undefined ? [] : MULTIMODAL_REGISTRY.getPlugin('image').items(data);
  const found = inputs.promptTokenIds.filter((id) => id === placeholderTokenId).length;
  if (found !== images.length) {
    throw new OcelliError(
      'ERR_PLACEHOLDER_COUNT',
      `Expected one image placeholder (token ${placeholderTokenId}) for each of ${images.length} pictures but the prompt has ${found}`,
      {
        hint: 'Write <image> once per picture in the prompt, or use chat, whose template does.',
        details: { placeholders: found, images: images.length },
      },
    );
  }
  if (images.length === 0) return inputs;
  // The text stays what the user wrote.
  const [, promptTokenIds] = repeatAndPadPlaceholderTokens(undefined, undefined, inputs.promptTokenIds, {
    placeholderTokenId,
    repeatCount: images.map((image, index) => rowsOf(image, index, rows)),
  });
  return { ...inputs, promptTokenIds };
}

function rowsOf(image: unknown, index: number, rows: ImageRows): number {
  const details = { index };
  if (isTensor(image)) return embeddingRows(image, rows.width, index);
  if (isRawImage(image)) return rows.ofPicture(image);
  if (typeof image !== 'object' || image === null) {
    throw new OcelliError(
      'ERR_IMAGE_TYPE',
      `Expected a decoded picture, embeddings or keyword tensors at index ${index} of multiModalData.image but received ${typeof image}`,
      { details },
    );
  }
  const tensors = image as Record<string, Tensor>;
  const { imageEmbeds } = tensors;
  return isTensor(imageEmbeds) ? embeddingRows(imageEmbeds, rows.width, index) : rows.ofMapped(tensors);
}

const floating: readonly string[] = ['float32', 'bfloat16', 'float16'];

/** Rows of embeddings [F, H], or [1, F, H]. */
function embeddingRows({ dtype, shape }: Tensor, width: number, index: number): number {
  const [rows = 0, columns] = shape.slice(-2);
  const items = shape.slice(0, -2);
  if (columns === width && rows > 0 && floating.includes(dtype) && items.length <= 1 && items.every((n) => n === 1)) {
    return rows;
  }
  throw new OcelliError(
    'ERR_IMAGE_EMBEDS',
    `Expected floating-point image embeddings of shape [F, ${width}] at index ${index} but received ${dtype} [${shape.join(', ')}]`,
    { details: { index } },
  );
}

/** The numbers of an integer tensor: sizes and grids. */
export function integersOf({ dtype, shape, data }: Tensor): number[] {
  const { buffer, byteOffset, byteLength } = data;
  if (dtype === 'int32') return [...new Int32Array(buffer, byteOffset, byteLength / 4)];
  if (dtype === 'int64') return Array.from(new BigInt64Array(buffer, byteOffset, byteLength / 8), Number);
  throw new OcelliError(
    'ERR_IMAGE_SIZE',
    `Expected int32 or int64 for sizes of pictures but received ${dtype} [${shape.join(', ')}]`,
  );
}
