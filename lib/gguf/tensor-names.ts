/** Names of a language model's tensors: GGUF's and the checkpoint folder's. */
import type { JsonObject } from '../config/json-file';
import type { GgufFile } from './file';
import { architectureOf } from './text-config';

const whole: Readonly<Record<string, string>> = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
};

const inBlock: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

/** Where an architecture's parts are others: Phi-3's fused weights, Gemma's four norms. */
const inBlockOf: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  phi3: { ...inBlock, attn_qkv: 'self_attn.qkv_proj', ffn_up: 'mlp.gate_up_proj' },
  gemma2: {
    ...inBlock,
    post_attention_norm: 'post_attention_layernorm',
    ffn_norm: 'pre_feedforward_layernorm',
    post_ffw_norm: 'post_feedforward_layernorm',
  },
};

export interface TextPlaces {
  /** Folder's name -> file's name. */
  names: Map<string, string>;
  /** File's name -> heads whose rows come in rope pairs. */
  pairedHeads: Record<string, number>;
}

/** @param prefix of the language model within a larger one */
export function textPlaces(gguf: GgufFile, config: JsonObject, prefix: string): TextPlaces {
  const { modelType, pairedRope } = architectureOf(gguf);
  const parts = inBlockOf[modelType === 'gemma3_text' ? 'gemma2' : modelType] ?? inBlock;
  const heads: Record<string, number> = {
    attn_q: config.num_attention_heads as number,
    attn_k: config.num_key_value_heads as number,
  };
  const names = new Map<string, string>();
  const pairedHeads: Record<string, number> = {};
  for (const name of gguf.tensors.keys()) {
    const [, block, part = '', kind] = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(name) ?? [];
    const path = block === undefined ? whole[part] : parts[part];
    if (path === undefined) continue;
    names.set(`${prefix}${block === undefined ? path : `model.layers.${block}.${path}`}.${kind}`, name);
    if (pairedRope && block !== undefined && heads[part] !== undefined) pairedHeads[name] = heads[part];
  }
  return { names, pairedHeads };
}
