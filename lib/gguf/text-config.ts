/** Metadata of a language model -> config.json and generation_config.json. */
import type { JsonObject } from '../config/json-file';
import { OcelliError } from '../errors';
import type { GgufFile } from './file';

interface Architecture {
  modelClass: string;
  modelType: string;
  /** Converters reorder the rows of q and k for a rope that turns neighbouring pairs. */
  pairedRope: boolean;
}

const architectures: Readonly<Record<string, Architecture>> = {
  llama: { modelClass: 'LlamaForCausalLM', modelType: 'llama', pairedRope: true },
  qwen2: { modelClass: 'Qwen2ForCausalLM', modelType: 'qwen2', pairedRope: false },
  qwen3: { modelClass: 'Qwen3ForCausalLM', modelType: 'qwen3', pairedRope: false },
};

/** Llama with a window is Mistral: converters know one architecture for both. */
const mistral: Architecture = { modelClass: 'MistralForCausalLM', modelType: 'mistral', pairedRope: true };

export function architectureOf(gguf: GgufFile): Architecture {
  const name = gguf.required('general.architecture', gguf.string);
  const known = Object.keys(architectures);
  if (Object.hasOwn(architectures, name)) {
    const windowed = name === 'llama' && (gguf.number('llama.attention.sliding_window') ?? 0) > 0;
    return windowed ? mistral : architectures[name]!;
  }
  throw new OcelliError(
    'ERR_UNKNOWN_ARCHITECTURE',
    `Expected one of ${known.join(', ')} for general.architecture in ${gguf.path} but received '${name}'`,
    {
      hint:
        name === 'clip'
          ? "This is a projector's file: load the language model's, and name this one with the option mmproj."
          : 'Load the safetensors checkpoint of this model.',
      details: { architectures: [name], known },
    },
  );
}

/** What linear weights are computed in when they come quantised. */
const dtypes: Readonly<Record<string, string>> = { f32: 'float32', f16: 'float16', bf16: 'bfloat16' };

export function textConfig(gguf: GgufFile): JsonObject {
  const { modelClass, modelType } = architectureOf(gguf);
  const prefix = gguf.string('general.architecture')!;
  const number = (key: string): number | undefined => gguf.number(`${prefix}.${key}`);
  const required = (key: string): number => gguf.required(`${prefix}.${key}`, gguf.number);
  if ((number('expert_count') ?? 0) > 0)
    throw gguf.error(
      `${prefix}.expert_count`,
      '0',
      String(number('expert_count')),
      'Mixtures of experts are not read.',
    );
  const table = gguf.tensors.get('token_embd.weight');
  if (!table) throw gguf.error('token_embd.weight', 'a tensor', 'none');
  const [hidden, heads] = [required('embedding_length'), required('attention.head_count')];
  const headDim = number('attention.key_length') ?? hidden / heads;
  const rotary = number('rope.dimension_count') ?? headDim;
  const linear = gguf.tensors.get('blk.0.ffn_down.weight')?.dtype ?? table.dtype;
  return {
    architectures: [modelClass],
    model_type: modelType,
    vocab_size: table.shape[0],
    hidden_size: hidden,
    intermediate_size: required('feed_forward_length'),
    num_hidden_layers: required('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: number('attention.head_count_kv') ?? heads,
    head_dim: headDim,
    max_position_embeddings: required('context_length'),
    rms_norm_eps: required('attention.layer_norm_rms_epsilon'),
    rope_theta: number('rope.freq_base') ?? 10000,
    rope_scaling: ropeScaling(gguf, prefix),
    ...(rotary === headDim ? {} : { partial_rotary_factor: rotary / headDim }),
    attention_bias: gguf.tensors.has('blk.0.attn_q.bias'),
    mlp_bias: gguf.tensors.has('blk.0.ffn_down.bias'),
    sliding_window: number('attention.sliding_window') ?? null,
    tie_word_embeddings: !gguf.tensors.has('output.weight'),
    torch_dtype: dtypes[linear] ?? 'bfloat16',
    bos_token_id: gguf.number('tokenizer.ggml.bos_token_id') ?? null,
    eos_token_id: gguf.number('tokenizer.ggml.eos_token_id') ?? null,
  };
}

function ropeScaling(gguf: GgufFile, prefix: string): JsonObject | null {
  // Llama 3's scaling: the converter worked it out for each frequency.
  if (gguf.tensors.has('rope_freqs.weight'))
    return { rope_type: 'factors', factors: [...gguf.values('rope_freqs.weight')] };
  const type = gguf.string(`${prefix}.rope.scaling.type`);
  const factor = gguf.number(`${prefix}.rope.scaling.factor`) ?? gguf.number(`${prefix}.rope.scale_linear`);
  if (type === 'none' || (type === undefined && (factor === undefined || factor === 1))) return null;
  return { rope_type: type ?? 'linear', factor };
}

/** Every token that ends an answer. */
export function generationConfig(gguf: GgufFile): JsonObject {
  const ids = ['eos', 'eot', 'eom'].map((name) => gguf.number(`tokenizer.ggml.${name}_token_id`));
  return { eos_token_id: [...new Set(ids.filter((id) => id !== undefined))] };
}
