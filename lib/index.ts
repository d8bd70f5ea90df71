/** Ocelli: multimodal LLM inference in the Node.js process. */
export {
  LLM,
  SamplingParams,
  estimateMemory,
  type ChatOptions,
  type CompletionOutput,
  type ContentPart,
  type EmbedOptions,
  type EmbeddingOutput,
  type EngineStats,
  type FinishReason,
  type Media,
  type MemoryPlan,
  type Message,
  type Prompt,
  type RequestMetrics,
  type RequestOptions,
  type RequestOutput,
  type RequestStream,
  type RequestUsage,
  type SamplingOptions,
  type TextPrompt,
  type TokenLogprob,
  type TokensPrompt,
} from './engine';
export { ModelConfig, type EngineOptions, type LoadOptions, type LoadProgress } from './config';
export { registerModel, supportsMultiModal, type ModelHooks } from './models/registry';
export type { MappedItem, ModelHooksOfClass, PlacedItem, PromptPositions, SupportsMultiModal } from './models/hooks';
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
  type InputMapper,
  type MaxTokens,
  type MultiModalData,
} from './multimodal';
export type { HookOptions, Kwargs } from './config/hooks';
export type { DummyData, DummyDataFactory, InputProcessor, LLMInputs } from './inputs/registry';
export { Tokenizer } from './tokenizer';
export { InputContext } from './inputs/context';
