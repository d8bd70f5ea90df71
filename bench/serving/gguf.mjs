// A GGUF file of a Llama shape with random weights in bfloat16, Q8_0 or Q4_0, for both engines of a pair. The format: ggml's docs/gguf.md.
import { closeSync, openSync, writeSync } from 'node:fs';

const alignment = 32;
const tensorType = { f32: 0, q4_0: 2, q8_0: 8, bf16: 30 };
/** Bytes of 32 values. */
const blockBytes = { bf16: 64, q8_0: 34, q4_0: 18 };
const valueType = { uint32: 4, int32: 5, float32: 6, string: 8, array: 9 };

class Bytes {
  #parts = [];
  #scalar(size, write) {
    const bytes = Buffer.alloc(size);
    write(bytes);
    this.#parts.push(bytes);
    return this;
  }
  uint32 = (x) => this.#scalar(4, (b) => b.writeUInt32LE(x));
  int32 = (x) => this.#scalar(4, (b) => b.writeInt32LE(x));
  float32 = (x) => this.#scalar(4, (b) => b.writeFloatLE(x));
  uint64 = (x) => this.#scalar(8, (b) => b.writeBigUInt64LE(BigInt(x)));
  string(text) {
    const bytes = Buffer.from(text);
    this.uint64(bytes.length).#parts.push(bytes);
    return this;
  }
  pair(key, type, value) {
    const list = Array.isArray(value);
    this.string(key).uint32(valueType[list ? 'array' : type]);
    if (list) this.uint32(valueType[type]).uint64(value.length);
    for (const x of list ? value : [value]) this[type](x);
  }
  concat = () => Buffer.concat(this.#parts);
}

/** A tokenizer that is never asked: ids go in and come out. Bytes are there because its readers insist. */
function vocabulary(size) {
  const tokens = ['<unk>', '<s>', '</s>'];
  const kinds = [2, 3, 3];
  for (let i = 0; i < 256; i++) {
    tokens.push(`<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
    kinds.push(6);
  }
  while (tokens.length < size) {
    tokens.push(`\u2581t${tokens.length}`);
    kinds.push(1);
  }
  return { tokens, kinds, scores: tokens.map((_, i) => -i) };
}

/** Normal deviates of 0.02, 2^20 of them; a tensor is as many of them as it needs, over and over. */
export function deviates() {
  const values = new Float32Array(2 ** 20);
  let state = 1;
  const uniform = () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) + 0.5) / 2 ** 32;
  for (let i = 0; i < values.length; i++)
    values[i] = 0.02 * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return values;
}

/** Of a positive normal number, rounded down: any scale near the right one will do here. */
function float16(x) {
  const bits = new Uint32Array(Float32Array.of(x).buffer)[0];
  return (((bits >>> 23) - 112) << 10) | ((bits >>> 13) & 1023);
}

export function encoded(values, type) {
  if (type === 'bf16')
    return Buffer.from(Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16).buffer);
  const size = blockBytes[type];
  const out = Buffer.alloc((values.length / 32) * size);
  for (let block = 0; block < values.length / 32; block++) {
    const part = values.subarray(block * 32, block * 32 + 32);
    const most = part.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
    const scale = most / (type === 'q8_0' ? 127 : 7);
    const at = block * size;
    out.writeUInt16LE(float16(scale), at);
    const quant = (i) => Math.round(part[i] / scale);
    if (type === 'q8_0') for (let i = 0; i < 32; i++) out.writeInt8(quant(i), at + 2 + i);
    else for (let i = 0; i < 16; i++) out[at + 2 + i] = (quant(i) + 8) | ((quant(i + 16) + 8) << 4);
  }
  return out;
}

/**
 * @param shape a config.json of engine.mjs
 * @param type of matrices; in a Q4_0 file the embedding and the output matrix are Q8_0, as in files that people use
 */
export function writeGguf(path, shape, type = 'bf16') {
  const { hidden_size: hidden, intermediate_size: inner, num_hidden_layers: layers, vocab_size: vocab } = shape;
  const head = hidden / shape.num_attention_heads;
  const kv = head * shape.num_key_value_heads;
  const tensors = [
    ['token_embd.weight', hidden, vocab],
    ['output_norm.weight', hidden],
    ...(shape.tie_word_embeddings ? [] : [['output.weight', hidden, vocab]]),
    ...Array.from({ length: layers }, (_, i) => [
      [`blk.${i}.attn_norm.weight`, hidden],
      [`blk.${i}.attn_q.weight`, hidden, hidden],
      [`blk.${i}.attn_k.weight`, hidden, kv],
      [`blk.${i}.attn_v.weight`, hidden, kv],
      [`blk.${i}.attn_output.weight`, hidden, hidden],
      [`blk.${i}.ffn_norm.weight`, hidden],
      [`blk.${i}.ffn_gate.weight`, hidden, inner],
      [`blk.${i}.ffn_up.weight`, hidden, inner],
      [`blk.${i}.ffn_down.weight`, inner, hidden],
    ]).flat(),
  ].map(([name, ...sizes]) => {
    const count = sizes.reduce((a, b) => a * b, 1);
    const large = type === 'q4_0' && !name.startsWith('blk.') ? 'q8_0' : type;
    const kind = sizes.length === 2 ? large : 'f32';
    return { name, sizes, kind, bytes: kind === 'f32' ? count * 4 : (count / 32) * blockBytes[kind] };
  });
  const { tokens, kinds, scores } = vocabulary(vocab);
  const pairs = [
    ['general.architecture', 'string', 'llama'],
    ['general.alignment', 'uint32', alignment],
    ['llama.block_count', 'uint32', layers],
    ['llama.context_length', 'uint32', shape.max_position_embeddings],
    ['llama.embedding_length', 'uint32', hidden],
    ['llama.feed_forward_length', 'uint32', inner],
    ['llama.attention.head_count', 'uint32', shape.num_attention_heads],
    ['llama.attention.head_count_kv', 'uint32', shape.num_key_value_heads],
    ['llama.attention.layer_norm_rms_epsilon', 'float32', shape.rms_norm_eps],
    ['llama.rope.dimension_count', 'uint32', head],
    ['llama.rope.freq_base', 'float32', shape.rope_theta ?? 10000],
    ['llama.vocab_size', 'uint32', vocab],
    ['tokenizer.ggml.model', 'string', 'llama'],
    ['tokenizer.ggml.tokens', 'string', tokens],
    ['tokenizer.ggml.scores', 'float32', scores],
    ['tokenizer.ggml.token_type', 'int32', kinds],
    ['tokenizer.ggml.bos_token_id', 'uint32', 1],
    ['tokenizer.ggml.eos_token_id', 'uint32', 2],
  ];
  const bytes = new Bytes();
  bytes.uint32(0x46554747).uint32(3).uint64(tensors.length).uint64(pairs.length);
  for (const pair of pairs) bytes.pair(...pair);
  let offset = 0;
  for (const { name, sizes, kind, bytes: size } of tensors) {
    bytes.string(name).uint32(sizes.length);
    for (const n of sizes) bytes.uint64(n);
    bytes.uint32(tensorType[kind]).uint64(offset);
    offset += Math.ceil(size / alignment) * alignment;
  }
  const file = openSync(path, 'w');
  const pad = (size) => writeSync(file, Buffer.alloc((alignment - (size % alignment)) % alignment));
  const header = bytes.concat();
  writeSync(file, header);
  pad(header.length);
  const values = deviates();
  const pools = new Map();
  const poolOf = (kind) => pools.get(kind) ?? pools.set(kind, encoded(values, kind)).get(kind);
  for (const { kind, sizes, bytes: size } of tensors) {
    if (kind === 'f32') writeSync(file, Buffer.from(new Float32Array(sizes[0]).fill(1).buffer));
    else {
      const pool = poolOf(kind);
      for (let at = 0; at < size; at += pool.length) writeSync(file, pool, 0, Math.min(pool.length, size - at));
    }
    pad(size);
  }
  closeSync(file);
}
