/** What transformers fills in where config.json leaves a field out, by model_type (its configuration classes' defaults). */
import type { JsonObject } from './json-file';

const decoder = {
  vocab_size: 32000,
  hidden_size: 4096,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  hidden_act: 'silu',
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  tie_word_embeddings: false,
};

const defaultsByType: Readonly<Record<string, JsonObject>> = {
  llama: {
    ...decoder,
    intermediate_size: 11008,
    max_position_embeddings: 2048,
    attention_bias: false,
    mlp_bias: false,
  },
  mistral: {
    ...decoder,
    intermediate_size: 14336,
    num_key_value_heads: 8,
    max_position_embeddings: 131072,
    sliding_window: 4096,
  },
  qwen2: {
    ...decoder,
    vocab_size: 151936,
    intermediate_size: 22016,
    num_key_value_heads: 32,
    max_position_embeddings: 32768,
    use_sliding_window: false,
    sliding_window: 4096,
    max_window_layers: 28,
  },
  qwen3: {
    ...decoder,
    vocab_size: 151936,
    intermediate_size: 22016,
    num_key_value_heads: 32,
    head_dim: 128,
    max_position_embeddings: 32768,
    attention_bias: false,
    use_sliding_window: false,
    sliding_window: 4096,
    max_window_layers: 28,
  },
  clip_vision_model: {
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    num_channels: 3,
    image_size: 224,
    patch_size: 32,
    hidden_act: 'quick_gelu',
    layer_norm_eps: 1e-5,
  },
  llava: {
    image_token_index: 32000,
    projector_hidden_act: 'gelu',
    vision_feature_select_strategy: 'default',
    vision_feature_layer: -2,
    multimodal_projector_bias: true,
    tie_word_embeddings: false,
  },
};

/** Nested configurations: their model_type where config.json names none, and what stands in for an absent one. */
const partsByType: Readonly<Record<string, { text?: string; vision?: string; visionDefaults?: JsonObject }>> = {
  llava: {
    text: 'llama',
    vision: 'clip_vision_model',
    visionDefaults: {
      hidden_size: 1024,
      intermediate_size: 4096,
      num_hidden_layers: 24,
      num_attention_heads: 16,
      image_size: 336,
      patch_size: 14,
    },
  },
};

export function defaultsOf(modelType: string): JsonObject {
  return Object.hasOwn(defaultsByType, modelType) ? defaultsByType[modelType]! : {};
}

export function partsOf(modelType: string): { text?: string; vision?: string; visionDefaults?: JsonObject } {
  return Object.hasOwn(partsByType, modelType) ? partsByType[modelType]! : {};
}
