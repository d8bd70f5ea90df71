/** What a request carries besides text, and what mappers make of it. */
import type { InputContext } from '../inputs/context';
import type { Kwargs } from '../config/hooks';
import type { Tensor } from '../media/tensor';
import type { ImageInput } from '../media/types';
import type { MultiModalKwargs } from './kwargs';

export type Awaitable<T> = T | Promise<T>;

/** Frames, or embeddings in place of each; embeddings of all of it; or keyword tensors of a mapped one: { videoEmbeds, videoGridThw }. */
export type VideoInput = readonly ImageInput[] | Tensor | Readonly<Record<string, Tensor>>;

/** One item or a list per modality; own modalities carry what their plugin takes. */
export interface MultiModalData {
  image?: ImageInput | readonly ImageInput[];
  video?: VideoInput | readonly Exclude<VideoInput, Tensor>[];
  [modality: string]: unknown;
}

/**
 * Maps the items of one modality to the keyword tensors that the model's forward declares. Items are decoded: pictures are
 * RawImage (RGB) or Tensor (embeddings). Each tensor's first dimension counts the items.
 */
export type InputMapper = (
  ctx: InputContext,
  data: unknown,
  kwargs: Kwargs,
) => Awaitable<MultiModalKwargs | MapperOutput>;

export type MapperOutput = Record<string, unknown>;

/** Tokens that one item may cost at most: a number, or computed from the configuration. */
export type MaxTokens = number | ((ctx: InputContext, kwargs: Kwargs) => number);
