/** Llama, and its kin that differ by a bias, a window, a norm or how their weights are cut: Mistral, Qwen2, Qwen3, SmolLM3, Phi-3. */
import { OcelliError } from '../errors';
import {
  Embedding,
  Linear,
  Module,
  RMSNorm,
  add,
  type AttnMetadata,
  type ForwardInputs,
  type KvCache,
  type Value,
  type WeightNameRule,
} from '../nn';
import { DecoderAttention, DecoderMLP, decoderWeightNames, type AttentionTraits, type DecoderConfig } from './decoder';

export interface LlamaConfig extends DecoderConfig {
  partial_rotary_factor?: number;
  attention_bias?: boolean;
  use_sliding_window?: boolean;
  max_window_layers?: number;
  layer_types?: readonly string[];
  /** SmolLM3: 0 where a layer sees no positions; without the list every no_rope_layer_interval-th does. */
  no_rope_layers?: readonly number[];
  no_rope_layer_interval?: number;
}

function rotaryDimOf({ head_dim: size, partial_rotary_factor: part = 1 }: LlamaConfig): number {
  const turned = Math.floor(size * part);
  if (turned > 0 && turned % 2 === 0 && turned <= size) return turned;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected a part of head_dim ${size} that is an even number for partial_rotary_factor but received ${part}`,
    { details: { field: 'partial_rotary_factor' } },
  );
}

/** What the configuration leaves to the architecture. */
function traitsOf(config: LlamaConfig, layer: number): AttentionTraits {
  const bias = config.attention_bias ?? false;
  const window = config.sliding_window ?? undefined;
  const rope = { theta: config.rope_theta, scaling: config.rope_scaling, rotaryDim: rotaryDimOf(config) };
  const qkNorm = { eps: config.rms_norm_eps };
  const windowed = {
    slidingWindow: config.use_sliding_window && layer >= (config.max_window_layers ?? 0) ? window : undefined,
  };
  switch (config.model_type) {
    case 'qwen2':
    case 'qwen2_vl_text':
    case 'qwen2_5_vl_text':
      return { rope, qkvBias: true, ...windowed };
    case 'qwen3':
    case 'qwen3_vl_text':
      return { rope, qkvBias: bias, outBias: bias, qkNorm, ...windowed };
    case 'mistral':
      return { rope, slidingWindow: window };
    case 'phi3':
      return { rope, fused: true, slidingWindow: window };
    case 'smollm3': {
      const { no_rope_layers: list, no_rope_layer_interval: interval = 4 } = config;
      const turned = list ? list[layer] !== 0 : (layer + 1) % interval !== 0;
      const sliding = config.use_sliding_window && config.layer_types?.[layer] === 'sliding_attention';
      return {
        ...(turned ? { rope } : {}),
        qkvBias: bias,
        outBias: bias,
        slidingWindow: sliding ? window : undefined,
      };
    }
    default:
      return { rope, qkvBias: bias, outBias: bias };
  }
}

export class LlamaDecoderLayer extends Module {
  readonly input_layernorm: RMSNorm;
  readonly self_attn: DecoderAttention;
  readonly post_attention_layernorm: RMSNorm;
  readonly mlp: DecoderMLP;

  constructor(config: LlamaConfig, layer: number) {
    super();
    const norm = { eps: config.rms_norm_eps };
    this.input_layernorm = new RMSNorm(config.hidden_size, norm);
    const traits = traitsOf(config, layer);
    this.self_attn = new DecoderAttention(config, traits);
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, norm);
    this.mlp = new DecoderMLP(config, { fused: traits.fused });
  }

  forward(positions: Value, hidden: Value, kvCache: KvCache, attnMetadata: AttnMetadata): Value {
    const x = add(
      hidden,
      this.self_attn.forward(positions, this.input_layernorm.forward(hidden), kvCache, attnMetadata),
    );
    return add(x, this.mlp.forward(this.post_attention_layernorm.forward(x)));
  }
}

/** Without the head: what embedding models are saved as. */
export class LlamaModel extends Module {
  /** As they are, or under the name that they have inside LlamaForCausalLM. */
  static readonly weightNames: readonly WeightNameRule[] = [['', 'model.']];

  readonly embed_tokens: Embedding;
  readonly layers: readonly LlamaDecoderLayer[];
  readonly norm: RMSNorm;

  constructor(config: LlamaConfig) {
    super();
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new LlamaDecoderLayer(config, i));
    this.norm = new RMSNorm(config.hidden_size, { eps: config.rms_norm_eps });
  }

  /**
   * @param inputsEmbeds in place of inputIds: [T, hidden] with pictures merged in
   * @param after what becomes of a layer's output before the next one sees it
   */
  forward(
    inputs: ForwardInputs,
    inputsEmbeds?: Value,
    after: (hidden: Value, layer: number) => Value = (hidden) => hidden,
  ): Value {
    const { inputIds, positions, kvCaches, attnMetadata } = inputs;
    let hidden = inputsEmbeds ?? this.embed_tokens.forward(inputIds);
    for (const [i, layer] of this.layers.entries())
      hidden = after(layer.forward(positions, hidden, kvCaches[i]!, attnMetadata), i);
    return this.norm.forward(hidden);
  }
}

export class LlamaForCausalLM extends Module {
  static readonly weightNames: readonly WeightNameRule[] = decoderWeightNames;

  readonly model: LlamaModel;
  readonly lm_head: Linear;

  constructor(config: LlamaConfig) {
    super();
    this.model = new LlamaModel(config);
    const weight = config.tie_word_embeddings ? this.model.embed_tokens.weight : undefined;
    this.lm_head = new Linear(config.hidden_size, config.vocab_size, { bias: false, weight });
  }

  forward(inputs: ForwardInputs, inputsEmbeds?: Value): Value {
    return this.model.forward(inputs, inputsEmbeds);
  }

  computeLogits(hidden: Value): Value {
    return this.lm_head.forward(hidden);
  }
}
