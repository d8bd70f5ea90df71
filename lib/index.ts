/** Ocelli: multimodal LLM inference in the Node.js process. */
export { OcelliError, type OcelliErrorCode } from './errors';
export { Tensor, type DType } from './media/tensor';
export type { ImageInput, RawImage } from './media/types';
export { decodeImage, resizeImage, type DecodeOptions, type ResizeFilter, type ResizeOptions } from './media';
export {
  ImageProcessor,
  INPUT_REGISTRY,
  MULTIMODAL_REGISTRY,
  MultiModalKwargs,
  MultiModalPlugin,
  repeatAndPadPlaceholderTokens,
  type MultiModalData,
} from './multimodal';
export { Tokenizer } from './tokenizer';
export { InputContext } from './inputs/context';
