/** The two halves of a decoder block, as nearly every language model since Llama (Touvron et al. 2023) has them. */
import {
  Attention,
  Linear,
  Module,
  RMSNorm,
  RotaryEmbedding,
  activationOf,
  mergedLinear,
  reshape,
  slice,
  type Activation,
  type AttentionOptions,
  type AttnMetadata,
  type KvCache,
  type RopeScaling,
  type RotaryOptions,
  type Value,
  type WeightNameRule,
} from '../nn';

/**
 * How a checkpoint may name a language model's parameters: as a base model, saved without the head and its prefix, or as the part of a
 * multimodal model, in every generation of these.
 */
export const decoderWeightNames: readonly WeightNameRule[] = [
  ['model.', ''],
  ['', 'language_model.'],
  ['model.', 'model.language_model.'],
  ['model.', 'model.text_model.'],
  ['model.', 'language_model.'],
  ['lm_head.', 'model.lm_head.'],
];

/** Fields of config.json (or text_config) as lib/config completes them. */
export interface DecoderConfig {
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
  tie_word_embeddings: boolean;
  mlp_bias?: boolean;
  sliding_window?: number | null;
}

/** What a family makes of one layer's attention. */
export interface AttentionTraits extends AttentionOptions {
  qkvBias?: boolean;
  outBias?: boolean;
  /** The checkpoint has q, k and v as one matrix (Phi-3). */
  fused?: boolean;
  /** Each head of q and k is normed before it is turned. */
  qkNorm?: { eps: number; offset?: number };
  /** Absent: the layer sees no positions. */
  rope?: RotaryOptions;
}

export class DecoderMLP extends Module {
  readonly gate_proj?: Linear;
  readonly up_proj?: Linear;
  readonly gate_up_proj?: Linear;
  readonly down_proj: Linear;
  readonly #act: Activation;

  /** @param options.fused the checkpoint has both gates as one matrix (Phi-3) */
  constructor(config: DecoderConfig, options: { fused?: boolean; act?: string } = {}) {
    super();
    const { hidden_size: width, intermediate_size: inner, mlp_bias: bias = false } = config;
    if (options.fused) this.gate_up_proj = new Linear(width, 2 * inner, { bias });
    else {
      this.gate_proj = new Linear(width, inner, { bias });
      this.up_proj = new Linear(width, inner, { bias });
    }
    this.down_proj = new Linear(inner, width, { bias });
    this.#act = activationOf(options.act ?? config.hidden_act);
  }

  forward(x: Value): Value {
    const gate = this.#act;
    const gated =
      this.gate_up_proj?.forward(x, { gate }) ?? mergedLinear(x, [this.gate_proj!, this.up_proj!], { gate });
    return this.down_proj.forward(gated);
  }
}

export class DecoderAttention extends Module {
  readonly q_proj?: Linear;
  readonly k_proj?: Linear;
  readonly v_proj?: Linear;
  readonly qkv_proj?: Linear;
  readonly o_proj: Linear;
  readonly q_norm?: RMSNorm;
  readonly k_norm?: RMSNorm;
  readonly rotary_emb?: RotaryEmbedding;
  readonly attn: Attention;
  readonly #heads: number;
  readonly #kvHeads: number;
  readonly #headDim: number;

  constructor(config: DecoderConfig, traits: AttentionTraits) {
    super();
    const { hidden_size: width, num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: headDim } = config;
    const bias = traits.qkvBias ?? false;
    if (traits.fused) this.qkv_proj = new Linear(width, (heads + 2 * kvHeads) * headDim, { bias });
    else {
      this.q_proj = new Linear(width, heads * headDim, { bias });
      this.k_proj = new Linear(width, kvHeads * headDim, { bias });
      this.v_proj = new Linear(width, kvHeads * headDim, { bias });
    }
    this.o_proj = new Linear(heads * headDim, width, { bias: traits.outBias ?? false });
    if (traits.qkNorm) {
      this.q_norm = new RMSNorm(headDim, traits.qkNorm);
      this.k_norm = new RMSNorm(headDim, traits.qkNorm);
    }
    if (traits.rope) this.rotary_emb = new RotaryEmbedding(headDim, traits.rope);
    this.attn = new Attention(headDim, traits);
    this.#heads = heads;
    this.#kvHeads = kvHeads;
    this.#headDim = headDim;
  }

  forward(positions: Value, x: Value, kvCache: KvCache, attnMetadata: AttnMetadata): Value {
    const [heads, kvHeads] = [this.#heads, this.#kvHeads];
    // One product for all three, cut by heads: [T, heads + 2 kvHeads, headDim].
    const qkv = this.qkv_proj?.forward(x) ?? mergedLinear(x, [this.q_proj!, this.k_proj!, this.v_proj!]);
    const rows = reshape(qkv, [qkv.shape[0]!, heads + 2 * kvHeads, this.#headDim]);
    let q = slice(rows, 1, 0, heads);
    let k = slice(rows, 1, heads, heads + kvHeads);
    const v = slice(rows, 1, heads + kvHeads);
    if (this.q_norm) q = this.q_norm.forward(q);
    if (this.k_norm) k = this.k_norm.forward(k);
    if (this.rotary_emb) {
      q = this.rotary_emb.forward(positions, q);
      k = this.rotary_emb.forward(positions, k);
    }
    return this.o_proj.forward(this.attn.forward(q, k, v, kvCache, attnMetadata));
  }
}
