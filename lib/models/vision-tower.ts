/** What the hooks of a multimodal model need of its vision tower, and the helpers that towers share. */
import { OcelliError } from '../errors';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { isTensor } from '../media/tensor';
import type { RawImage } from '../media/types';
import { repeatAndPadPlaceholderTokens } from '../multimodal/placeholders';

export type FeatureSelectStrategy = 'default' | 'full';

/** One object per tower: its figures, computed from vision_config. */
export interface VisionTower<C> {
  patchesPerSide(config: C): number;
  /** Rows of one picture; 'default' drops the class token where there is one. */
  imageTokens(config: C, strategy: FeatureSelectStrategy): number;
  /** The picture that profiling maps. */
  dummyImage(config: C): RawImage;
}

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

/** Each placeholder becomes as many as its picture has rows; embeddings have as many as they have rows. */
export function expandImages(inputs: LLMInputs, tokenId: number, tokens: (image: unknown) => number): LLMInputs {
  const images = imageItems(inputs.multiModalData?.image);
  const found = inputs.promptTokenIds.filter((id) => id === tokenId).length;
  if (found !== images.length) {
    throw new OcelliError(
      'ERR_PLACEHOLDER_COUNT',
      `Expected one image placeholder (token ${tokenId}) for each of ${images.length} pictures but the prompt has ${found}`,
      {
        hint: 'Write <image> once per picture in the prompt, or use chat, whose template does.',
        details: { placeholders: found, images: images.length },
      },
    );
  }
  if (images.length === 0) return inputs;
  // Without a tokenizer at hand only ids are expanded; the text stays what the user wrote.
  const [, promptTokenIds] = repeatAndPadPlaceholderTokens({ decode: () => '' }, undefined, inputs.promptTokenIds, {
    placeholderTokenId: tokenId,
    repeatCount: images.map(tokens),
  });
  return { ...inputs, promptTokenIds };
}

/** One entry per picture: [n, F, H] embeddings are n. */
function imageItems(data: unknown): unknown[] {
  if (data === undefined || data === null) return [];
  const items: unknown[] = Array.isArray(data) ? data : [data];
  return items.flatMap((item) =>
    isTensor(item) && item.shape.length === 3 ? Array.from({ length: item.shape[0]! }, () => item) : [item],
  );
}

/** Rows of a picture given as embeddings [F, H] or [n, F, H]; undefined for pixels. */
export function embeddingRows(image: unknown, width: number): number | undefined {
  if (!isTensor(image)) return undefined;
  const [rows, columns] = image.shape.slice(-2);
  if (image.shape.length >= 2 && columns === width) return rows;
  throw new OcelliError(
    'ERR_IMAGE_EMBEDS',
    `Expected image embeddings of shape [F, ${width}] or [n, F, ${width}] but received [${image.shape.join(', ')}]`,
  );
}
