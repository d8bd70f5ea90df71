/** Pixtral's vision transformer (Agrawal et al. 2024, arXiv:2410.07073): pictures of any size, turned by row and column. */
import { Tensor } from '../media/tensor';
import {
  Linear,
  Module,
  Parameter,
  RMSNorm,
  RotaryEmbedding,
  VisionAttention,
  activationOf,
  add,
  linear,
  mergedLinear,
  reshape,
  slice,
  type Activation,
  type Value,
} from '../nn';
import { squareOrder } from './siglip';
import type { VisionConfig } from './vision-encoder';

export interface PixtralVisionConfig extends Omit<VisionConfig, 'layer_norm_eps'> {
  rope_theta: number;
}

/** Of the tower's norms; no configuration names it. */
const norm = { eps: 1e-5 };

class PixtralAttention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;
  readonly rotary_emb: RotaryEmbedding;
  readonly attn: VisionAttention;
  readonly #heads: number;
  readonly #headDim: number;

  constructor({ hidden_size: width, num_attention_heads: heads, rope_theta: theta }: PixtralVisionConfig) {
    super();
    this.#heads = heads;
    this.#headDim = width / heads;
    this.q_proj = new Linear(width, width, { bias: false });
    this.k_proj = new Linear(width, width, { bias: false });
    this.v_proj = new Linear(width, width, { bias: false });
    this.o_proj = new Linear(width, width, { bias: false });
    this.rotary_emb = new RotaryEmbedding(this.#headDim, { theta, axes: 2, dealt: true });
    this.attn = new VisionAttention(this.#headDim);
  }

  /** x [patches, width] of one picture, whose patches all see each other. */
  forward(x: Value, positions: Value): Value {
    const heads = this.#heads;
    const qkv = mergedLinear(x, [this.q_proj, this.k_proj, this.v_proj]);
    const rows = reshape(qkv, [x.shape[0]!, 3 * heads, this.#headDim]);
    const [q, k, v] = [0, 1, 2].map((i) => slice(rows, 1, i * heads, (i + 1) * heads)) as [Value, Value, Value];
    const turned = [q, k].map((part) => this.rotary_emb.forward(positions, part));
    const whole = [...turned, v].map((part) => reshape(part, [1, ...part.shape])) as [Value, Value, Value];
    return this.o_proj.forward(reshape(this.attn.forward(...whole), x.shape));
  }
}

class PixtralMLP extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;
  readonly #act: Activation;

  constructor({ hidden_size: width, intermediate_size: inner, hidden_act: act }: PixtralVisionConfig) {
    super();
    this.gate_proj = new Linear(width, inner, { bias: false });
    this.up_proj = new Linear(width, inner, { bias: false });
    this.down_proj = new Linear(inner, width, { bias: false });
    this.#act = activationOf(act, 'vision_config.hidden_act');
  }

  forward(x: Value): Value {
    return this.down_proj.forward(mergedLinear(x, [this.gate_proj, this.up_proj], { gate: this.#act }));
  }
}

class PixtralLayer extends Module {
  readonly attention_norm: RMSNorm;
  readonly attention: PixtralAttention;
  readonly ffn_norm: RMSNorm;
  readonly feed_forward: PixtralMLP;

  constructor(config: PixtralVisionConfig) {
    super();
    this.attention_norm = new RMSNorm(config.hidden_size, norm);
    this.attention = new PixtralAttention(config);
    this.ffn_norm = new RMSNorm(config.hidden_size, norm);
    this.feed_forward = new PixtralMLP(config);
  }

  forward(x: Value, positions: Value): Value {
    const attended = add(x, this.attention.forward(this.attention_norm.forward(x), positions));
    return add(attended, this.feed_forward.forward(this.ffn_norm.forward(attended)));
  }
}

class PixtralTransformer extends Module {
  readonly layers: readonly PixtralLayer[];

  constructor(config: PixtralVisionConfig, blocks: number) {
    super();
    this.layers = Array.from({ length: blocks }, () => new PixtralLayer(config));
  }

  forward(x: Value, positions: Value): Value {
    for (const layer of this.layers) x = layer.forward(x, positions);
    return x;
  }
}

/** A convolution whose stride is its size, as a product over patches that are rows already. */
class PixtralPatchConv extends Module {
  readonly weight: Parameter;

  constructor({ hidden_size: width, num_channels: channels, patch_size: patch }: PixtralVisionConfig) {
    super();
    this.weight = new Parameter([width, channels, patch, patch]);
  }

  forward(patches: Value): Value {
    return linear(patches, this.weight);
  }
}

export class PixtralVisionModel extends Module {
  readonly patch_conv: PixtralPatchConv;
  readonly ln_pre: RMSNorm;
  readonly transformer: PixtralTransformer;

  /** @param blocks how many are made; there is no norm behind the last one */
  constructor(config: PixtralVisionConfig, blocks: number) {
    super();
    this.patch_conv = new PixtralPatchConv(config);
    this.ln_pre = new RMSNorm(config.hidden_size, norm);
    this.transformer = new PixtralTransformer(config, blocks);
  }

  /** patches [P, channels * patch * patch], positions [2, P] -> [P, width]. */
  forward(patches: Value, positions: Value): Value {
    return this.transformer.forward(this.ln_pre.forward(this.patch_conv.forward(patches)), positions);
  }
}

/**
 * A picture's patches as rows, with the row and column of each; squares of patches come one after the other. The picture's size differs
 * from request to request, so this is index arithmetic here and not an op of the program.
 * @param pixels [channels, height, width], sides in multiples of patch * square
 */
export function patchRows(
  pixels: Float32Array,
  [channels, height, width]: readonly [channels: number, height: number, width: number],
  patch: number,
  square: number,
): { patches: Tensor; patchPositions: Tensor } {
  const [rows, cols] = [height / patch, width / patch];
  const count = rows * cols;
  const data = new Float32Array(channels * height * width);
  const positions = new Int32Array(2 * count);
  let at = 0;
  squareOrder(rows, square, cols).forEach((place, i) => {
    const [row, col] = [Math.floor(place / cols), place % cols];
    positions[i] = row;
    positions[count + i] = col;
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < patch; y++) {
        // So few numbers that a subarray would cost more than they do.
        const from = (c * height + row * patch + y) * width + col * patch;
        for (let x = 0; x < patch; x++) data[at++] = pixels[from + x]!;
      }
    }
  });
  return {
    patches: new Tensor('float32', [count, channels * patch * patch], data),
    patchPositions: new Tensor('int32', [2, count], positions),
  };
}
