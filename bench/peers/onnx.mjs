// ONNX graphs of the shapes of engine.mjs with random weights, linear layers quantised as transformers.js's q8 models are: bytes by
// MatMulInteger, activations with one scale a tensor. Field numbers: onnx.proto; GroupQueryAttention: ONNX Runtime's contrib operators.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { float, integer, message, text, writeParts } from './protobuf.mjs';

const types = { f32: 1, i8: 3, i32: 6, i64: 7 };
const contrib = 'com.microsoft';
const positions = 2048;

const raw = {
  f32: (list) => Buffer.from(Float32Array.from(list).buffer),
  i64: (list) => Buffer.from(BigInt64Array.from(list, BigInt).buffer),
};

let state = 1;
const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
const pool = Buffer.from(Int8Array.from({ length: 2 ** 20 }, () => random() * 254 - 127).buffer);
const smallFloats = Buffer.from(Float32Array.from({ length: 2 ** 20 }, () => (random() - 0.5) * 0.04).buffer);
/** `size` bytes of `source`, over and over. */
const repeated = (source, size) => Buffer.alloc(size, source);

class Graph {
  #nodes = [];
  #weights = [];
  #inputs = [];
  #outputs = [];
  #count = 0;

  #attribute(name, value) {
    const parts = text(1, name);
    if (Array.isArray(value)) parts.push(...value.flatMap((x) => integer(8, x)), ...integer(20, 7));
    else if (typeof value === 'object') parts.push(...float(2, value.float), ...integer(20, 1));
    else parts.push(...integer(3, value), ...integer(20, 2));
    return message(5, parts);
  }

  /** The names of its outputs; one alone is not in a list. `outputs`: how many, or their names. */
  node(op, inputs, { outputs = 1, domain, ...attributes } = {}) {
    const names = Array.isArray(outputs) ? outputs : Array.from({ length: outputs }, () => `v${this.#count++}`);
    const parts = [
      ...inputs.flatMap((name) => text(1, name)),
      ...names.flatMap((name) => text(2, name)),
      ...text(3, `n${this.#count++}`),
      ...text(4, op),
      ...Object.entries(attributes).flatMap(([name, value]) => this.#attribute(name, value)),
      ...(domain ? text(7, domain) : []),
    ];
    this.#nodes.push(...message(1, parts));
    return names.length === 1 ? names[0] : names;
  }

  weight(type, shape, bytes) {
    const name = `w${this.#count++}`;
    const dims = shape.flatMap((n) => integer(1, n));
    this.#weights.push(...message(5, [...dims, ...integer(2, types[type]), ...text(8, name), ...message(9, [bytes])]));
    return name;
  }

  scalar = (type, value) => this.weight(type, [], raw[type]([value]));
  list = (values) => this.weight('i64', [values.length], raw.i64(values));
  filled = (size, value) => this.weight('f32', [size], raw.f32(new Float32Array(size).fill(value)));
  floats = (shape) => this.weight('f32', shape, repeated(smallFloats, shape.reduce((a, b) => a * b, 1) * 4));

  #value(field, name, type, shape) {
    const dims = shape.flatMap((n) => message(1, typeof n === 'string' ? text(2, n) : integer(1, n)));
    const tensor = message(1, [...integer(1, types[type]), ...message(2, dims)]);
    return message(field, [...text(1, name), ...message(2, tensor)]);
  }
  input(name, type, shape) {
    this.#inputs.push(...this.#value(11, name, type, shape));
    return name;
  }
  output(name, type, shape) {
    this.#outputs.push(...this.#value(12, name, type, shape));
  }

  /** x W + b, the weight quantised by one scale and the activations by one, found when it runs. */
  linear(x, inner, outer, bias) {
    const [quants, scale, zero] = this.node('DynamicQuantizeLinear', [x], { outputs: 3 });
    const weight = this.weight('i8', [inner, outer], repeated(pool, inner * outer));
    const zeroWeight = this.weight('i8', [], Buffer.alloc(1));
    const sums = this.node('Cast', [this.node('MatMulInteger', [quants, weight, zero, zeroWeight])], { to: types.f32 });
    const y = this.node('Mul', [sums, this.node('Mul', [scale, this.scalar('f32', 0.0003)])]);
    return bias ? this.node('Add', [y, this.filled(outer, 0)]) : y;
  }

  write(path) {
    const graph = [...this.#nodes, ...text(2, 'g'), ...this.#weights, ...this.#inputs, ...this.#outputs];
    const opset = (domain, version) => message(8, [...text(1, domain), ...integer(2, version)]);
    writeParts(path, [...integer(1, 8), ...message(7, graph), ...opset('', 17), ...opset(contrib, 1)]);
  }
}

const silu = (g, x) => g.node('Mul', [x, g.node('Sigmoid', [x])]);

function decoder(g, x, shape) {
  const { hidden_size: hidden, intermediate_size: inner, num_attention_heads: heads } = shape;
  const head = hidden / heads;
  const kv = shape.num_key_value_heads;
  const mask = g.input('attention_mask', 'i64', ['batch_size', 'total_sequence_length']);
  const toInt32 = (v) => g.node('Cast', [v], { to: types.i32 });
  const one = g.list([1]);
  const lengths = toInt32(g.node('Sub', [g.node('ReduceSum', [mask, one], { keepdims: 1 }), one]));
  const total = toInt32(g.node('Gather', [g.node('Shape', [mask]), g.scalar('i64', 1)]));
  const angles = Float32Array.from({ length: (positions * head) / 2 }, (_, i) => {
    const pair = i % (head / 2);
    return Math.floor(i / (head / 2)) / (shape.rope_theta ?? 10000) ** ((2 * pair) / head);
  });
  const table = (f) => g.weight('f32', [positions, head / 2], Buffer.from(angles.map(f).buffer));
  const [cos, sin] = [table(Math.cos), table(Math.sin)];
  const norm = (v) =>
    g.node('SimplifiedLayerNormalization', [v, g.filled(hidden, 1)], {
      axis: -1,
      epsilon: { float: 1e-5 },
      stash_type: 1,
    });
  for (let i = 0; i < shape.num_hidden_layers; i++) {
    const past = ['key', 'value'].map((part) => {
      g.output(`present.${i}.${part}`, 'f32', ['batch_size', kv, 'total_sequence_length', head]);
      return g.input(`past_key_values.${i}.${part}`, 'f32', ['batch_size', kv, 'past_sequence_length', head]);
    });
    const h = norm(x);
    const [q, k, v] = [hidden, kv * head, kv * head].map((width) => g.linear(h, hidden, width));
    const [attended] = g.node('GroupQueryAttention', [q, k, v, ...past, lengths, total, cos, sin], {
      outputs: [`a${i}`, `present.${i}.key`, `present.${i}.value`],
      domain: contrib,
      num_heads: heads,
      kv_num_heads: kv,
      do_rotary: 1,
      rotary_interleaved: 0,
    });
    x = g.node('Add', [x, g.linear(attended, hidden, hidden)]);
    const f = norm(x);
    const gated = g.node('Mul', [silu(g, g.linear(f, hidden, inner)), g.linear(f, hidden, inner)]);
    x = g.node('Add', [x, g.linear(gated, inner, hidden)]);
  }
  g.node('Identity', [g.linear(norm(x), hidden, shape.vocab_size)], { outputs: ['logits'] });
  g.output('logits', 'f32', ['batch_size', 'sequence_length', shape.vocab_size]);
}

/** `layers` of the vision tower on [batch, rows, hidden]. */
function encoder(g, x, vision, layers, rows) {
  const { hidden_size: hidden, intermediate_size: inner, num_attention_heads: heads } = vision;
  const head = hidden / heads;
  const split = g.list([0, rows, heads, head]);
  const joined = g.list([0, rows, hidden]);
  const norm = (v) =>
    g.node('LayerNormalization', [v, g.filled(hidden, 1), g.filled(hidden, 0)], { axis: -1, epsilon: { float: 1e-5 } });
  for (let i = 0; i < layers; i++) {
    const h = norm(x);
    const part = (perm) =>
      g.node('Transpose', [g.node('Reshape', [g.linear(h, hidden, hidden, true), split])], { perm });
    const q = g.node('Mul', [part([0, 2, 1, 3]), g.scalar('f32', head ** -0.5)]);
    const scores = g.node('Softmax', [g.node('MatMul', [q, part([0, 2, 3, 1])])], { axis: -1 });
    const read = g.node('Transpose', [g.node('MatMul', [scores, part([0, 2, 1, 3])])], { perm: [0, 2, 1, 3] });
    x = g.node('Add', [x, g.linear(g.node('Reshape', [read, joined]), hidden, hidden, true)]);
    const up = g.linear(norm(x), hidden, inner, true);
    const act = g.node('Mul', [up, g.node('Sigmoid', [g.node('Mul', [up, g.scalar('f32', 1.702)])])]);
    x = g.node('Add', [x, g.linear(act, inner, hidden, true)]);
  }
  return x;
}

const rowsOf = ({ image_size: size, patch_size: patch }) => (size / patch) ** 2 + 1;

/** The tower alone, on [batch, rows, hidden] `x`: all layers but the last, which nobody reads. */
export function writeEncoder(path, vision) {
  const g = new Graph();
  const shape = ['batch', rowsOf(vision), vision.hidden_size];
  const y = encoder(g, g.input('x', 'f32', shape), vision, vision.num_hidden_layers - 1, rowsOf(vision));
  g.node('Identity', [y], { outputs: ['y'] });
  g.output('y', 'f32', shape);
  g.write(path);
}

function writeFolder(folder, config) {
  mkdirSync(join(folder, 'onnx'), { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  writeFileSync(join(folder, 'generation_config.json'), JSON.stringify({ bos_token_id: 1, eos_token_id: 2 }));
}

const ids = (g) => g.input('input_ids', 'i64', ['batch_size', 'sequence_length']);
const embed = (g, shape, outputs) =>
  g.node('Gather', [g.floats([shape.vocab_size, shape.hidden_size]), ids(g)], { outputs });

/** A folder that transformers.js loads. @param shape a text config.json of engine.mjs */
export function writeLlama(folder, shape) {
  writeFolder(folder, { ...shape, head_dim: shape.hidden_size / shape.num_attention_heads });
  const g = new Graph();
  const x = embed(g, shape, 1);
  g.input('position_ids', 'i64', ['batch_size', 'sequence_length']);
  decoder(g, x, shape);
  g.write(join(folder, 'onnx', 'model_quantized.onnx'));
}

/** A folder of three graphs that transformers.js loads. @param shape the LLaVA config.json of engine.mjs */
export function writeLlava(folder, shape) {
  const { vision_config: vision, text_config: language } = shape;
  writeFolder(folder, {
    ...shape,
    text_config: { ...language, head_dim: language.hidden_size / language.num_attention_heads },
  });
  const { hidden_size: hidden, patch_size: patch, image_size: size } = vision;
  const rows = rowsOf(vision);

  const tower = new Graph();
  const pixels = tower.input('pixel_values', 'f32', ['batch_size', 3, size, size]);
  const patches = tower.node('Conv', [pixels, tower.floats([hidden, 3, patch, patch])], {
    kernel_shape: [patch, patch],
    strides: [patch, patch],
  });
  const flat = tower.node('Reshape', [patches, tower.list([0, hidden, rows - 1])]);
  const batch = tower.node('Gather', [tower.node('Shape', [pixels]), tower.list([0])]);
  const each = tower.node('Concat', [batch, tower.list([1, hidden])], { axis: 0 });
  const first = tower.node('Expand', [tower.floats([1, 1, hidden]), each]);
  const all = tower.node('Concat', [first, tower.node('Transpose', [flat], { perm: [0, 2, 1] })], { axis: 1 });
  const placed = tower.node('Add', [all, tower.floats([1, rows, hidden])]);
  const normed = tower.node('LayerNormalization', [placed, tower.filled(hidden, 1), tower.filled(hidden, 0)], {
    axis: -1,
    epsilon: { float: 1e-5 },
  });
  const seen = encoder(tower, normed, vision, vision.num_hidden_layers - 1, rows);
  const kept = tower.node('Slice', [seen, tower.list([1]), tower.list([rows]), tower.list([1])]);
  const up = tower.linear(kept, hidden, language.hidden_size, true);
  const act = tower.node('Gelu', [up], { domain: contrib });
  const features = tower.linear(act, language.hidden_size, language.hidden_size, true);
  tower.node('Identity', [features], { outputs: ['image_features'] });
  tower.output('image_features', 'f32', ['batch_size', rows - 1, language.hidden_size]);
  tower.write(join(folder, 'onnx', 'vision_encoder_quantized.onnx'));

  const wide = ['batch_size', 'sequence_length', language.hidden_size];
  const table = new Graph();
  embed(table, language, ['inputs_embeds']);
  table.output('inputs_embeds', 'f32', wide);
  table.write(join(folder, 'onnx', 'embed_tokens.onnx'));

  const body = new Graph();
  const x = body.input('inputs_embeds', 'f32', wide);
  body.input('position_ids', 'i64', ['batch_size', 'sequence_length']);
  decoder(body, x, language);
  body.write(join(folder, 'onnx', 'decoder_model_merged_quantized.onnx'));
}
