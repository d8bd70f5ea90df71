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

const qwen2 = {
  ...decoder,
  vocab_size: 151936,
  intermediate_size: 22016,
  num_key_value_heads: 32,
  max_position_embeddings: 32768,
  use_sliding_window: false,
  sliding_window: 4096,
  max_window_layers: 28,
};

const qwen2VlText = {
  ...qwen2,
  vocab_size: 152064,
  hidden_size: 8192,
  intermediate_size: 29568,
  num_hidden_layers: 80,
  num_attention_heads: 64,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  rope_theta: 1000000,
  max_window_layers: 80,
};

const qwen3 = {
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
};

const qwenVision = { num_heads: 16, in_channels: 3, spatial_merge_size: 2, temporal_patch_size: 2 };

const gemma = {
  ...decoder,
  vocab_size: 256000,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  hidden_act: 'gelu_pytorch_tanh',
  max_position_embeddings: 8192,
  query_pre_attn_scalar: 256,
  sliding_window: 4096,
  tie_word_embeddings: true,
};

const llava = {
  image_token_index: 32000,
  projector_hidden_act: 'gelu',
  vision_feature_select_strategy: 'default',
  vision_feature_layer: -2,
  multimodal_projector_bias: true,
  tie_word_embeddings: false,
};

const qwenVl = {
  image_token_index: 151655,
  video_token_index: 151656,
  vision_start_token_id: 151652,
  vision_end_token_id: 151653,
  tie_word_embeddings: false,
};

/** Of LLaVA-OneVision's grids: tiles along a side. */
const sixths = [1, 2, 3, 4, 5, 6];

const idefics3 = { image_token_index: 128257, scale_factor: 2, tie_word_embeddings: false };

const idefics3Vision = {
  hidden_size: 1152,
  intermediate_size: 3072,
  num_hidden_layers: 12,
  num_attention_heads: 16,
  num_channels: 3,
  image_size: 224,
  patch_size: 32,
  hidden_act: 'gelu_pytorch_tanh',
  layer_norm_eps: 1e-6,
};

const llavaParts = {
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
  qwen2,
  qwen2_vl_text: qwen2VlText,
  qwen3,
  qwen2_5_vl_text: qwen2VlText,
  qwen3_vl_text: { ...qwen3, max_position_embeddings: 128000, rope_theta: 5000000 },
  phi3: {
    ...decoder,
    vocab_size: 32064,
    hidden_size: 3072,
    intermediate_size: 8192,
    max_position_embeddings: 4096,
    original_max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
  },
  smollm3: {
    ...decoder,
    vocab_size: 128256,
    hidden_size: 2048,
    intermediate_size: 11008,
    num_hidden_layers: 36,
    num_attention_heads: 16,
    num_key_value_heads: 4,
    max_position_embeddings: 32768,
    rope_theta: 2000000,
    tie_word_embeddings: true,
    attention_bias: false,
    mlp_bias: false,
    use_sliding_window: false,
  },
  gemma: {
    ...gemma,
    hidden_size: 3072,
    intermediate_size: 24576,
    num_hidden_layers: 28,
    num_attention_heads: 16,
    num_key_value_heads: 16,
  },
  gemma2: {
    ...gemma,
    sliding_window_pattern: 2,
    attn_logit_softcapping: 50,
    final_logit_softcapping: 30,
  },
  gemma3_text: {
    ...gemma,
    vocab_size: 262208,
    max_position_embeddings: 131072,
    rope_theta: 1000000,
    rope_local_base_freq: 10000,
    sliding_window_pattern: 6,
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
  siglip_vision_model: {
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    num_channels: 3,
    image_size: 224,
    patch_size: 16,
    hidden_act: 'gelu_pytorch_tanh',
    layer_norm_eps: 1e-6,
  },
  qwen2_vl_vision: {
    ...qwenVision,
    depth: 32,
    embed_dim: 1280,
    hidden_size: 3584,
    hidden_act: 'quick_gelu',
    mlp_ratio: 4,
    patch_size: 14,
  },
  qwen2_5_vl_vision: {
    ...qwenVision,
    depth: 32,
    hidden_size: 3584,
    hidden_act: 'silu',
    intermediate_size: 3420,
    patch_size: 14,
    out_hidden_size: 3584,
    window_size: 112,
    tokens_per_second: 4,
    fullatt_block_indexes: [7, 15, 23, 31],
  },
  qwen3_vl_vision: {
    ...qwenVision,
    depth: 27,
    hidden_size: 1152,
    hidden_act: 'gelu_pytorch_tanh',
    intermediate_size: 4304,
    patch_size: 16,
    out_hidden_size: 3584,
    num_position_embeddings: 2304,
    deepstack_visual_indexes: [8, 16, 24],
  },
  pixtral: {
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: 24,
    num_attention_heads: 16,
    num_channels: 3,
    image_size: 1024,
    patch_size: 16,
    hidden_act: 'gelu',
    rope_theta: 10000,
  },
  internvl_vision: {
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: 24,
    num_attention_heads: 16,
    num_channels: 3,
    image_size: 448,
    patch_size: 14,
    hidden_act: 'gelu',
    layer_norm_eps: 1e-6,
    norm_type: 'layer_norm',
    attention_bias: false,
    use_qk_norm: false,
    use_mean_pooling: true,
  },
  mistral3: {
    image_token_index: 10,
    spatial_merge_size: 2,
    projector_hidden_act: 'gelu',
    vision_feature_layer: -1,
    multimodal_projector_bias: false,
    tie_word_embeddings: false,
  },
  internvl: {
    image_token_index: 151667,
    downsample_ratio: 0.5,
    projector_hidden_act: 'gelu',
    vision_feature_layer: -1,
    tie_word_embeddings: false,
  },
  gemma3: {
    boi_token_index: 255999,
    eoi_token_index: 256000,
    image_token_index: 262144,
    mm_tokens_per_image: 256,
  },
  paligemma: { image_token_index: 256000, bos_token_id: 2 },
  idefics3_vision: idefics3Vision,
  smolvlm_vision: idefics3Vision,
  idefics3,
  smolvlm: idefics3,
  llava,
  llava_next: {
    ...llava,
    image_grid_pinpoints: [
      [336, 672],
      [672, 336],
      [672, 672],
      [1008, 336],
      [336, 1008],
    ],
  },
  llava_onevision: {
    ...llava,
    image_token_index: 151646,
    video_token_index: 151647,
    vision_feature_select_strategy: 'full',
    vision_feature_layer: -1,
    vision_aspect_ratio: 'anyres_max_9',
    image_grid_pinpoints: sixths.flatMap((high) => sixths.map((wide) => [384 * high, 384 * wide])),
  },
  qwen2_vl: qwenVl,
  qwen2_5_vl: qwenVl,
  qwen3_vl: qwenVl,
};

interface Parts {
  text?: string;
  /** The language models that its class can be built with; default: Llama's kin. */
  texts?: readonly string[];
  vision?: string;
  /** What stands in for an absent vision_config. */
  visionDefaults?: JsonObject;
  /** Older files have no text_config: its fields are the configuration's own. */
  flatText?: boolean;
}

const llamas = ['llama', 'mistral', 'qwen2', 'qwen3', 'phi3', 'smollm3'];
const gemmas = ['gemma', 'gemma2', 'gemma3_text'];

/** Nested configurations: their model_type where config.json names none. */
const partsByType: Readonly<Record<string, Parts>> = {
  llava: llavaParts,
  llava_next: llavaParts,
  llava_onevision: {
    text: 'qwen2',
    vision: 'siglip_vision_model',
    visionDefaults: {
      hidden_size: 1152,
      intermediate_size: 4304,
      num_hidden_layers: 26,
      num_attention_heads: 16,
      image_size: 384,
      patch_size: 14,
    },
  },
  mistral3: { text: 'mistral', vision: 'pixtral' },
  internvl: { text: 'qwen2', vision: 'internvl_vision' },
  gemma3: { text: 'gemma3_text', texts: gemmas, vision: 'siglip_vision_model' },
  paligemma: {
    text: 'gemma',
    texts: gemmas,
    vision: 'siglip_vision_model',
    visionDefaults: {
      hidden_size: 1152,
      intermediate_size: 4304,
      num_hidden_layers: 27,
      num_attention_heads: 16,
      patch_size: 14,
    },
  },
  idefics3: { text: 'llama', vision: 'idefics3_vision' },
  smolvlm: { text: 'llama', vision: 'smolvlm_vision' },
  qwen2_vl: { text: 'qwen2_vl_text', vision: 'qwen2_vl_vision', flatText: true },
  qwen2_5_vl: { text: 'qwen2_5_vl_text', vision: 'qwen2_5_vl_vision', flatText: true },
  qwen3_vl: { text: 'qwen3_vl_text', vision: 'qwen3_vl_vision' },
};

export function defaultsOf(modelType: string): JsonObject {
  return Object.hasOwn(defaultsByType, modelType) ? defaultsByType[modelType]! : {};
}

export function partsOf(modelType: string): Parts {
  return Object.hasOwn(partsByType, modelType) ? partsByType[modelType]! : {};
}

/** Types of language models that a family takes; undefined for one that is not known here. */
export function textsOf(modelType: string): readonly string[] | undefined {
  const { text, texts } = partsOf(modelType);
  if (text === undefined) return undefined;
  return texts ?? (llamas.includes(text) ? llamas : [text]);
}
