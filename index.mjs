// The ESM face of the one CommonJS build: one registry, one class identity.
import ocelli from './dist/index.js';

export const {
  OcelliError,
  Tensor,
  decodeImage,
  resizeImage,
  ImageProcessor,
  INPUT_REGISTRY,
  MULTIMODAL_REGISTRY,
  MultiModalKwargs,
  MultiModalPlugin,
  repeatAndPadPlaceholderTokens,
  InputContext,
} = ocelli;
