/** InternVL's vision transformer (Chen et al. 2023): a class token, scaled branches, and at the larger sizes norms on q and k. */
import {
  LayerNorm,
  Linear,
  Module,
  Parameter,
  RMSNorm,
  VisionAttention,
  add,
  concat,
  constant,
  expand,
  gatherRows,
  mergedLinear,
  mul,
  reshape,
  slice,
  type Value,
} from '../nn';
import { OcelliError } from '../errors';
import { squareOrder } from './siglip';
import { PatchEmbedding, VisionMLP, type VisionConfig } from './vision-encoder';

export interface InternVitConfig extends VisionConfig {
  attention_bias: boolean;
  use_qk_norm: boolean;
  norm_type: string;
  use_mean_pooling: boolean;
}

function normOf({ norm_type: type, hidden_size: size, layer_norm_eps: eps }: InternVitConfig): LayerNorm | RMSNorm {
  if (type === 'layer_norm') return new LayerNorm(size, { eps });
  if (type === 'rms_norm') return new RMSNorm(size, { eps });
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected 'layer_norm' or 'rms_norm' for vision_config.norm_type but received '${type}'`,
    { details: { field: 'vision_config.norm_type' } },
  );
}

class InternPatchEmbeddings extends Module {
  readonly projection: PatchEmbedding;

  constructor(config: InternVitConfig, square: number) {
    super();
    this.projection = new PatchEmbedding(config, { bias: true, square });
  }

  forward(pixels: Value): Value {
    return this.projection.forward(pixels);
  }
}

class InternEmbeddings extends Module {
  readonly cls_token: Parameter;
  readonly patch_embeddings: InternPatchEmbeddings;
  readonly position_embeddings: Parameter;
  readonly #order: readonly number[];

  constructor(config: InternVitConfig, square: number) {
    super();
    const { hidden_size: width, image_size: pixels, patch_size: patch } = config;
    const order = squareOrder(pixels / patch, square);
    this.cls_token = new Parameter([1, 1, width]);
    this.patch_embeddings = new InternPatchEmbeddings(config, square);
    this.position_embeddings = new Parameter([1, order.length + 1, width]);
    this.#order = [0, ...order.map((place) => place + 1)];
  }

  forward(pixels: Value): Value {
    const patches = this.patch_embeddings.forward(pixels);
    const [, rows, width] = this.position_embeddings.shape as [number, number, number];
    const first = expand(reshape(this.cls_token, [1, 1, width]), [patches.shape[0]!, 1, width]);
    const places = constant(this.#order, [rows], 'i32');
    return add(concat([first, patches], 1), gatherRows(reshape(this.position_embeddings, [rows, width]), places));
  }
}

class InternAttention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly projection_layer: Linear;
  readonly q_norm?: RMSNorm;
  readonly k_norm?: RMSNorm;
  readonly attn: VisionAttention;
  readonly #heads: number;
  readonly #headDim: number;

  constructor(config: InternVitConfig) {
    super();
    const { hidden_size: width, num_attention_heads: heads, attention_bias: bias, layer_norm_eps: eps } = config;
    this.#heads = heads;
    this.#headDim = width / heads;
    this.q_proj = new Linear(width, width, { bias });
    this.k_proj = new Linear(width, width, { bias });
    this.v_proj = new Linear(width, width, { bias });
    this.projection_layer = new Linear(width, width);
    if (config.use_qk_norm) {
      this.q_norm = new RMSNorm(width, { eps });
      this.k_norm = new RMSNorm(width, { eps });
    }
    this.attn = new VisionAttention(this.#headDim);
  }

  forward(x: Value): Value {
    const width = this.#heads * this.#headDim;
    const qkv = mergedLinear(x, [this.q_proj, this.k_proj, this.v_proj]);
    const [q, k, v] = [0, 1, 2].map((i) => slice(qkv, -1, i * width, (i + 1) * width)) as [Value, Value, Value];
    const heads = (rows: Value): Value => reshape(rows, [...rows.shape.slice(0, -1), this.#heads, this.#headDim]);
    // The norms see the whole width, before it is cut into heads.
    const [queries, keys] = [this.q_norm?.forward(q) ?? q, this.k_norm?.forward(k) ?? k];
    return this.projection_layer.forward(this.attn.forward(heads(queries), heads(keys), heads(v)));
  }
}

class InternLayer extends Module {
  readonly attention: InternAttention;
  readonly mlp: VisionMLP;
  readonly layernorm_before: LayerNorm | RMSNorm;
  readonly layernorm_after: LayerNorm | RMSNorm;
  readonly lambda_1: Parameter;
  readonly lambda_2: Parameter;

  constructor(config: InternVitConfig) {
    super();
    this.attention = new InternAttention(config);
    this.mlp = new VisionMLP(config.hidden_size, config.intermediate_size, config.hidden_act);
    this.layernorm_before = normOf(config);
    this.layernorm_after = normOf(config);
    this.lambda_1 = new Parameter([config.hidden_size]);
    this.lambda_2 = new Parameter([config.hidden_size]);
  }

  forward(x: Value): Value {
    const attended = add(x, mul(this.attention.forward(this.layernorm_before.forward(x)), this.lambda_1));
    return add(attended, mul(this.mlp.forward(this.layernorm_after.forward(attended)), this.lambda_2));
  }
}

class InternEncoder extends Module {
  readonly layer: readonly InternLayer[];

  constructor(config: InternVitConfig, blocks: number) {
    super();
    this.layer = Array.from({ length: blocks }, () => new InternLayer(config));
  }

  forward(x: Value): Value {
    for (const layer of this.layer) x = layer.forward(x);
    return x;
  }
}

export class InternVisionModel extends Module {
  readonly embeddings: InternEmbeddings;
  readonly encoder: InternEncoder;
  readonly layernorm?: LayerNorm;
  readonly #square: number;

  /**
   * @param options.blocks how many are made
   * @param options.square patches come in squares of so many a side, one after the other
   */
  constructor(config: InternVitConfig, options: { blocks: number; square: number }) {
    super();
    const { hidden_size: size, layer_norm_eps: eps, num_hidden_layers: all } = config;
    this.#square = options.square;
    this.embeddings = new InternEmbeddings(config, options.square);
    this.encoder = new InternEncoder(config, options.blocks);
    // Models that pool their rows by the mean have no norm behind the last block.
    if (!config.use_mean_pooling && options.blocks === all) this.layernorm = new LayerNorm(size, { eps });
  }

  /** [N, C, H, W] -> [N, squares, square^2 * width], without the class token. */
  forward(pixels: Value): Value {
    const x = this.encoder.forward(this.embeddings.forward(pixels));
    const normed = this.layernorm?.forward(x) ?? x;
    const patches = slice(normed, 1, 1);
    const [pictures, rows, width] = [patches.shape[0]!, patches.shape[1] as number, patches.shape[2] as number];
    const joined = this.#square ** 2;
    return reshape(patches, [pictures, rows / joined, joined * width]);
  }
}
