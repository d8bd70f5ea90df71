/** What the vision transformers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL share: patches in blocks, and a 2-D rope over each head. */
import { Linear, Module, Parameter, RotaryEmbedding, VisionAttention, linear, reshape, slice, type Value } from '../nn';

/** vision_config as far as the three agree, completed by lib/config. */
export interface QwenVisionConfig {
  model_type: string;
  depth: number;
  num_heads: number;
  hidden_act: string;
  in_channels: number;
  patch_size: number;
  spatial_merge_size: number;
  temporal_patch_size: number;
}

/** What the processor and the sizes say of one picture. */
export interface QwenVisionInputs {
  /** [patches, channels * time * patch * patch], blocks of merged patches one after the other. */
  pixelValues: Value;
  /** [2, patches]: row and column of each patch. */
  patchPositions: Value;
  /** [frames + 1]: where each frame's patches begin; attention stays inside. */
  cuSeqlens: Value;
}

/** time, rows and columns of a picture's patches. */
export type Grid = readonly [time: number, rows: number, cols: number];

/** Of the towers' norms; no configuration names it. */
export const qwenNorm = { eps: 1e-6 };

/** A convolution over whole patches of a picture shown twice: a product, since the processor gives the patches as rows. */
class QwenProjection extends Module {
  readonly weight: Parameter;
  readonly bias?: Parameter;

  constructor(config: QwenVisionConfig, width: number, bias: boolean) {
    super();
    const { in_channels: channels, temporal_patch_size: time, patch_size: patch } = config;
    this.weight = new Parameter([width, channels, time, patch, patch]);
    if (bias) this.bias = new Parameter([width]);
  }

  forward(patches: Value): Value {
    return linear(patches, this.weight, this.bias);
  }
}

export class QwenPatchEmbed extends Module {
  readonly proj: QwenProjection;

  constructor(config: QwenVisionConfig, width: number, options: { bias: boolean }) {
    super();
    this.proj = new QwenProjection(config, width, options.bias);
  }

  forward(patches: Value): Value {
    return this.proj.forward(patches);
  }
}

/** Rows and columns of patches turn a half of each head; attention sees one segment. */
export class QwenVisionAttention extends Module {
  readonly qkv: Linear;
  readonly proj: Linear;
  readonly rotary_emb: RotaryEmbedding;
  readonly attn: VisionAttention;
  readonly #heads: number;
  readonly #headDim: number;

  constructor({ num_heads: heads }: QwenVisionConfig, width: number) {
    super();
    this.#heads = heads;
    this.#headDim = width / heads;
    this.qkv = new Linear(width, 3 * width);
    this.proj = new Linear(width, width);
    this.rotary_emb = new RotaryEmbedding(this.#headDim, { theta: 10000, axes: 2 });
    this.attn = new VisionAttention(this.#headDim);
  }

  forward(x: Value, positions: Value, cuSeqlens: Value): Value {
    const heads = this.#heads;
    const rows = reshape(this.qkv.forward(x), [x.shape[0]!, 3 * heads, this.#headDim]);
    const [q, k, v] = [0, 1, 2].map((i) => slice(rows, 1, i * heads, (i + 1) * heads)) as [Value, Value, Value];
    const turned = [q, k].map((part) => this.rotary_emb.forward(positions, part)) as [Value, Value];
    return this.proj.forward(this.attn.forward(...turned, v, cuSeqlens));
  }
}

/** Row and column of each patch, block by block as the processor gives them: [2, patches]. */
export function patchPositions([time, rows, cols]: Grid, merge: number): Int32Array {
  const patches = time * rows * cols;
  const positions = new Int32Array(2 * patches);
  for (let i = 0; i < patches; i++) {
    const inside = i % merge ** 2;
    const block = Math.floor((i % (rows * cols)) / merge ** 2);
    const blocks = cols / merge;
    positions[i] = Math.floor(block / blocks) * merge + Math.floor(inside / merge);
    positions[patches + i] = (block % blocks) * merge + (inside % merge);
  }
  return positions;
}
