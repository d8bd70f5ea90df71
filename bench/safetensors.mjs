// A checkpoint's folder of a Llama shape with random bfloat16 weights.
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { deviates, encoded } from './serving/gguf.mjs';

/** @param shape a config.json of engine.mjs */
export function writeSafetensors(folder, shape) {
  const { hidden_size: hidden, intermediate_size: inner, vocab_size: vocab } = shape;
  const kv = (hidden / shape.num_attention_heads) * shape.num_key_value_heads;
  const tensors = [
    ['model.embed_tokens.weight', vocab, hidden],
    ['model.norm.weight', hidden],
    ...(shape.tie_word_embeddings ? [] : [['lm_head.weight', vocab, hidden]]),
  ];
  for (let i = 0; i < shape.num_hidden_layers; i++) {
    const at = `model.layers.${i}`;
    tensors.push(
      [`${at}.input_layernorm.weight`, hidden],
      [`${at}.self_attn.q_proj.weight`, hidden, hidden],
      [`${at}.self_attn.k_proj.weight`, kv, hidden],
      [`${at}.self_attn.v_proj.weight`, kv, hidden],
      [`${at}.self_attn.o_proj.weight`, hidden, hidden],
      [`${at}.post_attention_layernorm.weight`, hidden],
      [`${at}.mlp.gate_proj.weight`, inner, hidden],
      [`${at}.mlp.up_proj.weight`, inner, hidden],
      [`${at}.mlp.down_proj.weight`, hidden, inner],
    );
  }
  const header = {};
  let offset = 0;
  for (const [name, ...sizes] of tensors) {
    const end = offset + sizes.reduce((a, b) => a * b, 1) * 2;
    header[name] = { dtype: 'BF16', shape: sizes, data_offsets: [offset, end] };
    offset = end;
  }
  const text = JSON.stringify(header);
  const padded = text.padEnd(Math.ceil(text.length / 8) * 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  mkdirSync(folder);
  writeFileSync(join(folder, 'config.json'), JSON.stringify(shape));
  const file = openSync(join(folder, 'model.safetensors'), 'w');
  writeSync(file, Buffer.concat([length, Buffer.from(padded)]));
  const pool = encoded(deviates(), 'bf16');
  for (let at = 0; at < offset; at += pool.length) writeSync(file, pool, 0, Math.min(pool.length, offset - at));
  closeSync(file);
}
