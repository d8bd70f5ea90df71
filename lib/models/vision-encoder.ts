/** The transformer that CLIP and SigLIP share, name for name: pre-norm blocks, and which of their outputs are wanted. */
import { OcelliError } from '../errors';
import {
  LayerNorm,
  Linear,
  Module,
  Parameter,
  VisionAttention,
  activationOf,
  add,
  concat,
  constant,
  gatherRows,
  linear,
  mergedLinear,
  mulDim,
  patchify,
  reshape,
  slice,
  type Activation,
  type Dim,
  type Value,
} from '../nn';

/** vision_config of either tower, completed by lib/config. */
export interface VisionConfig {
  model_type: string;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_channels: number;
  image_size: number;
  patch_size: number;
  hidden_act: string;
  layer_norm_eps: number;
}

/** 'default' drops the first row of each picture (CLIP's class token), 'full' keeps all. */
export type FeatureSelectStrategy = 'default' | 'full';

export interface FeatureSelection {
  /** How many blocks' output: negative counts from the end (-1 is the last). Several are joined along the width. */
  layers: number | readonly number[];
  strategy: FeatureSelectStrategy;
}

/** A convolution whose stride is its size, as a product over patch rows; what is left over at the right and bottom edge is not seen. */
export class PatchEmbedding extends Module {
  readonly weight: Parameter;
  readonly bias?: Parameter;
  readonly #patch: number;
  readonly #square: number;

  /** @param options.square patches come in squares of so many a side, one after the other */
  constructor(config: VisionConfig, options: { bias: boolean; square?: number }) {
    super();
    this.weight = new Parameter([config.hidden_size, config.num_channels, config.patch_size, config.patch_size]);
    if (options.bias) this.bias = new Parameter([config.hidden_size]);
    this.#patch = config.patch_size;
    this.#square = options.square ?? 1;
  }

  /** [N, C, H, W] -> [N, patches, width]. */
  forward(pixels: Value): Value {
    const [patch, square] = [this.#patch, this.#square];
    if (square === 1) return linear(patchify(pixels, patch), this.weight, this.bias);
    // The squares first, then each of them as a picture of its own.
    const side = patch * square;
    const squares = patchify(pixels, side);
    const [pictures, count] = squares.shape as [Dim, Dim];
    const patches = patchify(reshape(squares, [mulDim(pictures, count), pixels.shape[1]!, side, side]), patch);
    const rows = reshape(patches, [pictures, mulDim(count, square ** 2), patches.shape[2]!]);
    return linear(rows, this.weight, this.bias);
  }
}

/** A learned table, one row per place. */
export class PositionEmbedding extends Module {
  readonly weight: Parameter;
  readonly #order: readonly number[] | undefined;

  /** @param order the table's row for each row of a picture, where they do not come in the table's order */
  constructor(rows: number, width: number, order?: readonly number[]) {
    super();
    this.weight = new Parameter([rows, width]);
    this.#order = order;
  }

  forward(x: Value): Value {
    const order = this.#order;
    return add(x, order ? gatherRows(this.weight, constant(order, [order.length], 'i32')) : this.weight);
  }
}

class VisionSelfAttention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly out_proj: Linear;
  readonly attn: VisionAttention;
  readonly #heads: number;
  readonly #headDim: number;

  constructor({ hidden_size: width, num_attention_heads: heads }: VisionConfig) {
    super();
    this.#heads = heads;
    this.#headDim = width / heads;
    this.q_proj = new Linear(width, width);
    this.k_proj = new Linear(width, width);
    this.v_proj = new Linear(width, width);
    this.out_proj = new Linear(width, width);
    this.attn = new VisionAttention(this.#headDim);
  }

  forward(x: Value): Value {
    const heads = this.#heads;
    const qkv = mergedLinear(x, [this.q_proj, this.k_proj, this.v_proj]);
    const rows = reshape(qkv, [...qkv.shape.slice(0, 2), 3 * heads, this.#headDim]);
    const [q, k, v] = [0, 1, 2].map((i) => slice(rows, 2, i * heads, (i + 1) * heads)) as [Value, Value, Value];
    return this.out_proj.forward(this.attn.forward(q, k, v));
  }
}

/** Two layers with an activation between: the MLP of CLIP, SigLIP and Qwen2-VL blocks. */
export class VisionMLP extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly #act: Activation;

  constructor(width: number, inner: number, act: string) {
    super();
    this.fc1 = new Linear(width, inner);
    this.fc2 = new Linear(inner, width);
    this.#act = activationOf(act, 'vision_config.hidden_act');
  }

  forward(x: Value): Value {
    return this.fc2.forward(this.fc1.forward(x, { act: this.#act }));
  }
}

class VisionEncoderLayer extends Module {
  readonly layer_norm1: LayerNorm;
  readonly self_attn: VisionSelfAttention;
  readonly layer_norm2: LayerNorm;
  readonly mlp: VisionMLP;

  constructor(config: VisionConfig) {
    super();
    const norm = { eps: config.layer_norm_eps };
    this.layer_norm1 = new LayerNorm(config.hidden_size, norm);
    this.self_attn = new VisionSelfAttention(config);
    this.layer_norm2 = new LayerNorm(config.hidden_size, norm);
    this.mlp = new VisionMLP(config.hidden_size, config.intermediate_size, config.hidden_act);
  }

  forward(x: Value): Value {
    const attended = add(x, this.self_attn.forward(this.layer_norm1.forward(x)));
    return add(attended, this.mlp.forward(this.layer_norm2.forward(attended)));
  }
}

export class VisionEncoder extends Module {
  readonly layers: readonly VisionEncoderLayer[];

  constructor(config: VisionConfig, blocks: number) {
    super();
    this.layers = Array.from({ length: blocks }, () => new VisionEncoderLayer(config));
  }

  /** What each wanted number of blocks leaves (0: what enters the first). */
  forward(x: Value, wanted: readonly number[]): Value[] {
    const states = [x];
    for (const layer of this.layers) states.push((x = layer.forward(x)));
    return wanted.map((k) => states[k]!);
  }
}

/** A tower's transformer: pictures in, the outputs of the wanted numbers of blocks out. */
export interface VisionTransformer extends Module {
  forward(pixels: Value, wanted: readonly number[]): Value[];
}

/** Features of some blocks without the final norm. Blocks beyond are not made, so their weights are never read. */
export class VisionModel extends Module {
  readonly vision_model: VisionTransformer;
  readonly #wanted: readonly number[];
  readonly #strategy: FeatureSelectStrategy;

  constructor(config: VisionConfig, selection: FeatureSelection, transformer: (blocks: number) => VisionTransformer) {
    super();
    const layers = typeof selection.layers === 'number' ? [selection.layers] : selection.layers;
    this.#wanted = layers.map((l) => blocksOf(l, config.num_hidden_layers));
    this.#strategy = selection.strategy;
    this.vision_model = transformer(Math.max(...this.#wanted));
  }

  /** [N, C, H, W] -> [N, rows, width]. */
  forward(pixels: Value): Value {
    const features = concat(this.vision_model.forward(pixels, this.#wanted), 2);
    return this.#strategy === 'full' ? features : slice(features, 1, 1);
  }
}

/** How many blocks a vision_feature_layer means: negative counts from the end, -1 is all. */
export function blocksOf(layer: number, count: number): number {
  const blocks = layer < 0 ? count + 1 + layer : layer;
  if (Number.isInteger(blocks) && blocks >= 0 && blocks <= count) return blocks;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected an integer from ${-count - 1} to ${count} for vision_feature_layer but received ${String(layer)}`,
    { details: { field: 'vision_feature_layer' } },
  );
}
