/** Metadata of a language model -> config.json and generation_config.json. */
import type { JsonObject } from '../config/json-file';
import { OcelliError, nearestName } from '../errors';
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
  phi3: { modelClass: 'Phi3ForCausalLM', modelType: 'phi3', pairedRope: false },
  gemma: { modelClass: 'GemmaForCausalLM', modelType: 'gemma', pairedRope: false },
  gemma2: { modelClass: 'Gemma2ForCausalLM', modelType: 'gemma2', pairedRope: false },
  gemma3: { modelClass: 'Gemma3ForCausalLM', modelType: 'gemma3_text', pairedRope: false },
  smollm3: { modelClass: 'SmolLM3ForCausalLM', modelType: 'smollm3', pairedRope: true },
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
  const nearest = nearestName(name, known);
  throw new OcelliError(
    'ERR_UNKNOWN_ARCHITECTURE',
    `Expected one of ${known.join(', ')} for general.architecture in ${gguf.path} but received '${name}'`,
    {
      hint:
        name === 'clip'
          ? "This is a projector's file: load the language model's, and name this one with the option mmproj."
          : `${nearest ? `The nearest name is ${nearest}. ` : ''}Load the safetensors checkpoint of this model.`,
      details: { architectures: [name], known, ...(nearest ? { nearest } : {}) },
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
    // Phi-4 writes 0 for none.
    sliding_window: number('attention.sliding_window') || null,
    tie_word_embeddings: !gguf.tensors.has('output.weight'),
    torch_dtype: dtypes[linear] ?? 'bfloat16',
    bos_token_id: gguf.number('tokenizer.ggml.bos_token_id') ?? null,
    eos_token_id: gguf.number('tokenizer.ggml.eos_token_id') ?? null,
    ...(modelType.startsWith('gemma') ? gemmaConfig(gguf, prefix, { hidden, heads, headDim }) : {}),
  };
}

/** Converters add the 1 to norms' weights, and leave to the reader how scores are scaled and which layers have a window. */
function gemmaConfig(
  gguf: GgufFile,
  prefix: string,
  { hidden, heads, headDim }: { hidden: number; heads: number; headDim: number },
): JsonObject {
  const number = (key: string): number | undefined => gguf.number(`${prefix}.${key}`);
  const pattern = `${prefix}.attention.sliding_window_pattern`;
  const windows = gguf.booleans(pattern);
  // The models of 27 billion parameters go by their width, all others by the head's.
  const largest = number('block_count') === { gemma2: 46, gemma3: 62 }[prefix];
  const scale = number('attention.scale');
  const every = windows ? undefined : gguf.number(pattern);
  const config: JsonObject = {
    norm_offset: 0,
    query_pre_attn_scalar: scale === undefined ? (largest ? hidden / heads : headDim) : scale ** -2,
    attn_logit_softcapping: number('attn_logit_softcapping') ?? (prefix === 'gemma2' ? 50 : null),
    final_logit_softcapping: number('final_logit_softcapping') ?? (prefix === 'gemma2' ? 30 : null),
    ...(windows ? { layer_types: windows.map((w) => (w ? 'sliding_attention' : 'full_attention')) } : {}),
  };
  if (prefix === 'gemma2')
    return {
      ...config,
      sliding_window: number('attention.sliding_window') ?? 4096,
      sliding_window_pattern: every ?? 2,
    };
  if (prefix !== 'gemma3') return config;
  const windowed = number('attention.sliding_window') !== undefined;
  return {
    ...config,
    sliding_window_pattern: windowed ? (every ?? 6) : 1,
    rope_local_base_freq: number('rope.freq_base_swa') ?? 10000,
  };
}

function ropeScaling(gguf: GgufFile, prefix: string): JsonObject | null {
  // Llama 3's scaling: the converter worked it out for each frequency.
  if (gguf.tensors.has('rope_freqs.weight'))
    return { rope_type: 'factors', factors: [...gguf.values('rope_freqs.weight')] };
  const number = (key: string): number | undefined => gguf.number(`${prefix}.rope.scaling.${key}`);
  const original = number('original_context_length');
  const lengths = original === undefined ? {} : { original_max_position_embeddings: original };
  const [short, long] = ['rope_factors_short.weight', 'rope_factors_long.weight'];
  if (gguf.tensors.has(short) && gguf.tensors.has(long)) {
    const attention = number('attn_factor');
    return {
      rope_type: 'longrope',
      short_factor: [...gguf.values(short)],
      long_factor: [...gguf.values(long)],
      ...lengths,
      ...(attention === undefined ? {} : { attention_factor: attention }),
    };
  }
  const type = gguf.string(`${prefix}.rope.scaling.type`);
  const factor = number('factor') ?? gguf.number(`${prefix}.rope.scale_linear`);
  if (type === 'none' || (type === undefined && (factor === undefined || factor === 1))) return null;
  if (type !== 'yarn') return { rope_type: type ?? 'linear', factor };
  const borders = ['beta_fast', 'beta_slow'].map((name) => [name, number(`yarn_${name}`)] as const);
  return {
    rope_type: type,
    factor,
    ...lengths,
    ...Object.fromEntries(borders.filter(([, value]) => value !== undefined)),
  };
}

/** Every token that ends an answer. */
export function generationConfig(gguf: GgufFile): JsonObject {
  const ids = ['eos', 'eot', 'eom'].map((name) => gguf.number(`tokenizer.ggml.${name}_token_id`));
  return { eos_token_id: [...new Set(ids.filter((id) => id !== undefined))] };
}
