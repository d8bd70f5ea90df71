/** Llama, and its kin that differ by a bias, a window or a norm: Mistral, Qwen2, Qwen3. */
import {
  Attention,
  Embedding,
  Linear,
  Module,
  RMSNorm,
  RotaryEmbedding,
  activationOf,
  add,
  gatedAct,
  mergedLinear,
  reshape,
  slice,
  type Activation,
  type AttnMetadata,
  type ForwardInputs,
  type KvCache,
  type RopeScaling,
  type Value,
  type WeightNameRule,
} from '../nn';

/** Fields of config.json (or text_config) as lib/config completes them. */
export interface LlamaConfig {
  model_type: string;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  vocab_size: number;
  rms_norm_eps: number;
  hidden_act: string;
  rope_theta: number;
  rope_scaling?: RopeScaling | null;
  partial_rotary_factor?: number;
  tie_word_embeddings: boolean;
  attention_bias?: boolean;
  mlp_bias?: boolean;
  sliding_window?: number | null;
  use_sliding_window?: boolean;
  max_window_layers?: number;
}

/** What the configuration leaves to the architecture. */
interface Traits {
  qkvBias: boolean;
  outBias: boolean;
  qkNorm: boolean;
  window(layer: number): number | undefined;
}

function traitsOf(config: LlamaConfig): Traits {
  const bias = config.attention_bias ?? false;
  switch (config.model_type) {
    case 'qwen2':
    case 'qwen2_vl_text':
    case 'qwen2_5_vl_text':
    case 'qwen3':
    case 'qwen3_vl_text': {
      const from = config.max_window_layers ?? 0;
      const window = config.use_sliding_window ? (config.sliding_window ?? undefined) : undefined;
      const third = config.model_type.startsWith('qwen3');
      return {
        qkvBias: third ? bias : true,
        outBias: third ? bias : false,
        qkNorm: third,
        window: (layer) => (layer >= from ? window : undefined),
      };
    }
    case 'mistral':
      return { qkvBias: false, outBias: false, qkNorm: false, window: () => config.sliding_window ?? undefined };
    default:
      return { qkvBias: bias, outBias: bias, qkNorm: false, window: () => undefined };
  }
}

export class LlamaMLP extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;
  readonly #act: Activation;

  constructor(config: LlamaConfig) {
    super();
    const bias = config.mlp_bias ?? false;
    this.gate_proj = new Linear(config.hidden_size, config.intermediate_size, { bias });
    this.up_proj = new Linear(config.hidden_size, config.intermediate_size, { bias });
    this.down_proj = new Linear(config.intermediate_size, config.hidden_size, { bias });
    this.#act = activationOf(config.hidden_act);
  }

  forward(x: Value): Value {
    return this.down_proj.forward(gatedAct(mergedLinear(x, [this.gate_proj, this.up_proj]), this.#act));
  }
}

export class LlamaAttention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;
  readonly q_norm?: RMSNorm;
  readonly k_norm?: RMSNorm;
  readonly rotary_emb: RotaryEmbedding;
  readonly attn: Attention;
  readonly #heads: number;
  readonly #kvHeads: number;
  readonly #headDim: number;

  constructor(config: LlamaConfig, layer: number) {
    super();
    const traits = traitsOf(config);
    const { hidden_size: width, num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: headDim } = config;
    this.q_proj = new Linear(width, heads * headDim, { bias: traits.qkvBias });
    this.k_proj = new Linear(width, kvHeads * headDim, { bias: traits.qkvBias });
    this.v_proj = new Linear(width, kvHeads * headDim, { bias: traits.qkvBias });
    this.o_proj = new Linear(heads * headDim, width, { bias: traits.outBias });
    if (traits.qkNorm) {
      this.q_norm = new RMSNorm(headDim, { eps: config.rms_norm_eps });
      this.k_norm = new RMSNorm(headDim, { eps: config.rms_norm_eps });
    }
    this.rotary_emb = new RotaryEmbedding(headDim, {
      theta: config.rope_theta,
      scaling: config.rope_scaling,
      rotaryDim: Math.floor(headDim * (config.partial_rotary_factor ?? 1)),
    });
    this.attn = new Attention(headDim, { slidingWindow: traits.window(layer) });
    this.#heads = heads;
    this.#kvHeads = kvHeads;
    this.#headDim = headDim;
  }

  forward(positions: Value, x: Value, kvCache: KvCache, attnMetadata: AttnMetadata): Value {
    const [heads, kvHeads] = [this.#heads, this.#kvHeads];
    // One product for all three, cut by heads: [T, heads + 2 kvHeads, headDim].
    const qkv = mergedLinear(x, [this.q_proj, this.k_proj, this.v_proj]);
    const rows = reshape(qkv, [qkv.shape[0]!, heads + 2 * kvHeads, this.#headDim]);
    let q = slice(rows, 1, 0, heads);
    let k = slice(rows, 1, heads, heads + kvHeads);
    const v = slice(rows, 1, heads + kvHeads);
    if (this.q_norm) q = this.q_norm.forward(q);
    if (this.k_norm) k = this.k_norm.forward(k);
    q = this.rotary_emb.forward(positions, q);
    k = this.rotary_emb.forward(positions, k);
    return this.o_proj.forward(this.attn.forward(q, k, v, kvCache, attnMetadata));
  }
}

export class LlamaDecoderLayer extends Module {
  readonly input_layernorm: RMSNorm;
  readonly self_attn: LlamaAttention;
  readonly post_attention_layernorm: RMSNorm;
  readonly mlp: LlamaMLP;

  constructor(config: LlamaConfig, layer: number) {
    super();
    const norm = { eps: config.rms_norm_eps };
    this.input_layernorm = new RMSNorm(config.hidden_size, norm);
    this.self_attn = new LlamaAttention(config, layer);
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, norm);
    this.mlp = new LlamaMLP(config);
  }

  forward(positions: Value, hidden: Value, kvCache: KvCache, attnMetadata: AttnMetadata): Value {
    const x = add(
      hidden,
      this.self_attn.forward(positions, this.input_layernorm.forward(hidden), kvCache, attnMetadata),
    );
    return add(x, this.mlp.forward(this.post_attention_layernorm.forward(x)));
  }
}

export class LlamaModel extends Module {
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
  /** Base models are saved without the head and its prefix. */
  static readonly weightNames: readonly WeightNameRule[] = [['model.', '']];

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
