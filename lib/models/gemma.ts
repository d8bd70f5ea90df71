/** Gemma, Gemma 2 and Gemma 3 (Google DeepMind 2024, 2025): norms by 1 + weight, scaled embeddings, alternating windows. */
import {
  Embedding,
  Linear,
  Module,
  RMSNorm,
  act,
  add,
  mul,
  type AttnMetadata,
  type ForwardInputs,
  type KvCache,
  type Value,
  type WeightNameRule,
} from '../nn';
import { DecoderAttention, DecoderMLP, decoderWeightNames, type AttentionTraits, type DecoderConfig } from './decoder';

export interface GemmaConfig extends DecoderConfig {
  hidden_activation?: string | null;
  query_pre_attn_scalar?: number;
  attn_logit_softcapping?: number | null;
  final_logit_softcapping?: number | null;
  /** Gemma 3: theta of the layers with a window. */
  rope_local_base_freq?: number;
  /** Every so many layers one sees everything. */
  sliding_window_pattern?: number;
  layer_types?: readonly string[];
  /** What is added to norms' weights: 1, or 0 where a file has it in them. */
  norm_offset?: number;
}

const normTraits = ({ rms_norm_eps: eps, norm_offset: offset = 1 }: GemmaConfig): { eps: number; offset: number } => ({
  eps,
  offset,
});
const norm = (size: number, config: GemmaConfig): RMSNorm => new RMSNorm(size, normTraits(config));

function traitsOf(config: GemmaConfig, layer: number): AttentionTraits {
  const { rope_theta: theta, rope_scaling: scaling } = config;
  if (config.model_type === 'gemma') return { rope: { theta, scaling } };
  const pattern = config.sliding_window_pattern ?? 2;
  const local = config.layer_types ? config.layer_types[layer] === 'sliding_attention' : (layer + 1) % pattern !== 0;
  const localTheta = config.rope_local_base_freq;
  return {
    rope: local && localTheta !== undefined ? { theta: localTheta } : { theta, scaling },
    scale: config.query_pre_attn_scalar! ** -0.5,
    slidingWindow: local ? config.sliding_window : undefined,
    softcap: config.attn_logit_softcapping,
    ...(config.model_type === 'gemma3_text' ? { qkNorm: normTraits(config) } : {}),
  };
}

/** Rows of the table times sqrt(width). Checkpoints of bfloat16 are computed with the exact factor too. */
class ScaledEmbedding extends Embedding {
  override forward(ids: Value): Value {
    return mul(super.forward(ids), this.weight.shape[1]! ** 0.5);
  }
}

class GemmaDecoderLayer extends Module {
  readonly input_layernorm: RMSNorm;
  readonly self_attn: DecoderAttention;
  readonly post_attention_layernorm: RMSNorm;
  readonly pre_feedforward_layernorm?: RMSNorm;
  readonly mlp: DecoderMLP;
  readonly post_feedforward_layernorm?: RMSNorm;

  constructor(config: GemmaConfig, layer: number) {
    super();
    const width = config.hidden_size;
    this.input_layernorm = norm(width, config);
    this.self_attn = new DecoderAttention(config, traitsOf(config, layer));
    this.post_attention_layernorm = norm(width, config);
    this.mlp = new DecoderMLP(config, { act: config.hidden_activation ?? 'gelu_pytorch_tanh' });
    if (config.model_type === 'gemma') return;
    this.pre_feedforward_layernorm = norm(width, config);
    this.post_feedforward_layernorm = norm(width, config);
  }

  forward(positions: Value, hidden: Value, kvCache: KvCache, attnMetadata: AttnMetadata): Value {
    const attended = this.self_attn.forward(positions, this.input_layernorm.forward(hidden), kvCache, attnMetadata);
    if (!this.pre_feedforward_layernorm || !this.post_feedforward_layernorm) {
      const x = add(hidden, attended);
      return add(x, this.mlp.forward(this.post_attention_layernorm.forward(x)));
    }
    const x = add(hidden, this.post_attention_layernorm.forward(attended));
    const gated = this.mlp.forward(this.pre_feedforward_layernorm.forward(x));
    return add(x, this.post_feedforward_layernorm.forward(gated));
  }
}

/** Without the head. */
export class GemmaModel extends Module {
  static readonly weightNames: readonly WeightNameRule[] = [['', 'model.']];

  readonly embed_tokens: ScaledEmbedding;
  readonly layers: readonly GemmaDecoderLayer[];
  readonly norm: RMSNorm;

  constructor(config: GemmaConfig) {
    super();
    this.embed_tokens = new ScaledEmbedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new GemmaDecoderLayer(config, i));
    this.norm = norm(config.hidden_size, config);
  }

  /** @param inputsEmbeds in place of inputIds: [T, hidden], scaled, with pictures merged in */
  forward(inputs: ForwardInputs, inputsEmbeds?: Value): Value {
    const { inputIds, positions, kvCaches, attnMetadata } = inputs;
    let hidden = inputsEmbeds ?? this.embed_tokens.forward(inputIds);
    for (const [i, layer] of this.layers.entries())
      hidden = layer.forward(positions, hidden, kvCaches[i]!, attnMetadata);
    return this.norm.forward(hidden);
  }
}

export class GemmaForCausalLM extends Module {
  static readonly weightNames: readonly WeightNameRule[] = decoderWeightNames;

  readonly model: GemmaModel;
  readonly lm_head: Linear;
  readonly #softcap: number | undefined;

  constructor(config: GemmaConfig) {
    super();
    this.model = new GemmaModel(config);
    const weight = config.tie_word_embeddings ? this.model.embed_tokens.weight : undefined;
    this.lm_head = new Linear(config.hidden_size, config.vocab_size, { bias: false, weight });
    this.#softcap = config.final_logit_softcapping ?? undefined;
  }

  forward(inputs: ForwardInputs, inputsEmbeds?: Value): Value {
    return this.model.forward(inputs, inputsEmbeds);
  }

  computeLogits(hidden: Value): Value {
    const logits = this.lm_head.forward(hidden);
    const cap = this.#softcap;
    return cap === undefined ? logits : mul(act(mul(logits, 1 / cap), 'tanh'), cap);
  }
}
