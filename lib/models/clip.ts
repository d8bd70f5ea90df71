/** CLIP's vision transformer (Radford et al. 2021), as towers of other models use it. */
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
  expand,
  linear,
  mergedLinear,
  patchify,
  reshape,
  slice,
  type Activation,
  type Value,
} from '../nn';
import { blackImage, type FeatureSelectStrategy, type VisionTower } from './vision-tower';

/** vision_config, completed by lib/config. */
export interface ClipVisionConfig {
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

export const clipTower: VisionTower<ClipVisionConfig> = {
  patchesPerSide(config) {
    const { image_size: side, patch_size: patch } = config;
    if (side % patch !== 0) {
      throw new OcelliError(
        'ERR_CONFIG',
        `Expected vision_config.image_size to be a multiple of patch_size ${patch} but received ${side}`,
        { details: { field: 'vision_config.image_size' } },
      );
    }
    return side / patch;
  },
  imageTokens(config, strategy) {
    return this.patchesPerSide(config) ** 2 + (strategy === 'full' ? 1 : 0);
  },
  dummyImage(config) {
    return blackImage(config.image_size, config.image_size);
  },
};

class ClipPatchEmbedding extends Module {
  readonly weight: Parameter;
  readonly #patch: number;

  constructor(config: ClipVisionConfig) {
    super();
    this.weight = new Parameter([config.hidden_size, config.num_channels, config.patch_size, config.patch_size]);
    this.#patch = config.patch_size;
  }

  /** [N, C, H, W] -> [N, patches, width]: a convolution whose stride is its size is a product over patch rows. */
  forward(pixels: Value): Value {
    return linear(patchify(pixels, this.#patch), this.weight);
  }
}

class ClipPositionEmbedding extends Module {
  readonly weight: Parameter;

  constructor(config: ClipVisionConfig) {
    super();
    this.weight = new Parameter([clipTower.imageTokens(config, 'full'), config.hidden_size]);
  }

  forward(x: Value): Value {
    return add(x, this.weight);
  }
}

class ClipEmbeddings extends Module {
  readonly class_embedding: Parameter;
  readonly patch_embedding: ClipPatchEmbedding;
  readonly position_embedding: ClipPositionEmbedding;

  constructor(config: ClipVisionConfig) {
    super();
    this.class_embedding = new Parameter([config.hidden_size]);
    this.patch_embedding = new ClipPatchEmbedding(config);
    this.position_embedding = new ClipPositionEmbedding(config);
  }

  forward(pixels: Value): Value {
    const patches = this.patch_embedding.forward(pixels);
    const width = this.class_embedding.shape[0]!;
    const first = expand(reshape(this.class_embedding, [1, 1, width]), [patches.shape[0]!, 1, width]);
    return this.position_embedding.forward(concat([first, patches], 1));
  }
}

class ClipAttention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly out_proj: Linear;
  readonly attn: VisionAttention;
  readonly #heads: number;
  readonly #headDim: number;

  constructor({ hidden_size: width, num_attention_heads: heads }: ClipVisionConfig) {
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

class ClipMLP extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly #act: Activation;

  constructor(config: ClipVisionConfig) {
    super();
    this.fc1 = new Linear(config.hidden_size, config.intermediate_size);
    this.fc2 = new Linear(config.intermediate_size, config.hidden_size);
    this.#act = activationOf(config.hidden_act, 'vision_config.hidden_act');
  }

  forward(x: Value): Value {
    return this.fc2.forward(this.fc1.forward(x, { act: this.#act }));
  }
}

class ClipEncoderLayer extends Module {
  readonly layer_norm1: LayerNorm;
  readonly self_attn: ClipAttention;
  readonly layer_norm2: LayerNorm;
  readonly mlp: ClipMLP;

  constructor(config: ClipVisionConfig) {
    super();
    const norm = { eps: config.layer_norm_eps };
    this.layer_norm1 = new LayerNorm(config.hidden_size, norm);
    this.self_attn = new ClipAttention(config);
    this.layer_norm2 = new LayerNorm(config.hidden_size, norm);
    this.mlp = new ClipMLP(config);
  }

  forward(x: Value): Value {
    const attended = add(x, this.self_attn.forward(this.layer_norm1.forward(x)));
    return add(attended, this.mlp.forward(this.layer_norm2.forward(attended)));
  }
}

class ClipEncoder extends Module {
  readonly layers: readonly ClipEncoderLayer[];

  constructor(config: ClipVisionConfig, blocks: number) {
    super();
    this.layers = Array.from({ length: blocks }, () => new ClipEncoderLayer(config));
  }

  /** What each wanted number of blocks leaves (0: what enters the first). */
  forward(x: Value, wanted: readonly number[]): Value[] {
    const states = [x];
    for (const layer of this.layers) states.push((x = layer.forward(x)));
    return wanted.map((k) => states[k]!);
  }
}

class ClipVisionTransformer extends Module {
  readonly embeddings: ClipEmbeddings;
  /** Spelled so in every checkpoint. */
  readonly pre_layrnorm: LayerNorm;
  readonly encoder: ClipEncoder;

  constructor(config: ClipVisionConfig, blocks: number) {
    super();
    this.embeddings = new ClipEmbeddings(config);
    this.pre_layrnorm = new LayerNorm(config.hidden_size, { eps: config.layer_norm_eps });
    this.encoder = new ClipEncoder(config, blocks);
  }

  forward(pixels: Value, wanted: readonly number[]): Value[] {
    return this.encoder.forward(this.pre_layrnorm.forward(this.embeddings.forward(pixels)), wanted);
  }
}

export interface FeatureSelection {
  /** How many blocks' output: negative counts from the end (-1 is the last). Several are joined along the width. */
  layers: number | readonly number[];
  strategy: FeatureSelectStrategy;
}

/** Features of some block without the final norm. Blocks beyond are not made, so their weights are never read. */
export class ClipVisionModel extends Module {
  readonly vision_model: ClipVisionTransformer;
  readonly #wanted: readonly number[];
  readonly #strategy: FeatureSelectStrategy;

  constructor(config: ClipVisionConfig, selection: FeatureSelection) {
    super();
    const layers = typeof selection.layers === 'number' ? [selection.layers] : selection.layers;
    this.#wanted = layers.map((l) => blocksOf(l, config.num_hidden_layers));
    this.#strategy = selection.strategy;
    this.vision_model = new ClipVisionTransformer(config, Math.max(...this.#wanted));
  }

  /** [N, C, H, W] -> [N, tokens, width]. */
  forward(pixels: Value): Value {
    const features = concat(this.vision_model.forward(pixels, this.#wanted), 2);
    return this.#strategy === 'full' ? features : slice(features, 1, 1);
  }
}

function blocksOf(layer: number, count: number): number {
  const blocks = layer < 0 ? count + 1 + layer : layer;
  if (Number.isInteger(blocks) && blocks >= 0 && blocks <= count) return blocks;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected an integer from ${-count - 1} to ${count} for vision_feature_layer but received ${String(layer)}`,
    { details: { field: 'vision_feature_layer' } },
  );
}
