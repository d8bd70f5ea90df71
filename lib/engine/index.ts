export { LLM } from './llm';
export { SamplingParams, type SamplingOptions } from './sampling-params';
export { estimateMemory } from './loaded-model';
export type { MemoryPlan } from './memory-plan';
export type {
  ChatOptions,
  CompletionOutput,
  ContentPart,
  EmbedOptions,
  EmbeddingOutput,
  EngineStats,
  FinishReason,
  Media,
  Message,
  Prompt,
  RequestMetrics,
  RequestOptions,
  RequestOutput,
  RequestStream,
  RequestUsage,
  TextPrompt,
  TokenLogprob,
  TokensPrompt,
} from './types';
