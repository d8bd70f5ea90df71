/** Qwen2-VL (Wang et al. 2024, arXiv:2409.12191), pictures: any resolution, 2-D rope in the tower, M-RoPE in the text. */
import { LayerNorm, Linear, Module, add, reshape, type Value } from '../nn';
import {
  QwenPatchEmbed,
  QwenVisionAttention,
  qwenNorm,
  type QwenVisionConfig,
  type QwenVisionInputs,
} from './qwen-vision';
import type { QwenVlConfig } from './qwen-inputs';
import { QwenVLForConditionalGeneration } from './qwen-vl';
import { VisionMLP } from './vision-encoder';

export interface Qwen2VlVisionConfig extends QwenVisionConfig {
  embed_dim: number;
  /** Of the merger's output: the text model's width. */
  hidden_size: number;
  mlp_ratio: number;
}

class Qwen2VlVisionBlock extends Module {
  readonly norm1: LayerNorm;
  readonly norm2: LayerNorm;
  readonly attn: QwenVisionAttention;
  readonly mlp: VisionMLP;

  constructor(config: Qwen2VlVisionConfig) {
    super();
    const width = config.embed_dim;
    this.norm1 = new LayerNorm(width, qwenNorm);
    this.norm2 = new LayerNorm(width, qwenNorm);
    this.attn = new QwenVisionAttention(config, width);
    this.mlp = new VisionMLP(width, Math.trunc(width * config.mlp_ratio), config.hidden_act);
  }

  forward(x: Value, positions: Value, cuSeqlens: Value): Value {
    const attended = add(x, this.attn.forward(this.norm1.forward(x), positions, cuSeqlens));
    return add(attended, this.mlp.forward(this.norm2.forward(attended)));
  }
}

/** The patches of a block are neighbours: joined they are one row of the text model. */
class Qwen2VlPatchMerger extends Module {
  readonly ln_q: LayerNorm;
  /** Numbered as in the checkpoint, where the activation between them is the second. */
  readonly mlp: readonly [Linear, undefined, Linear];
  readonly #merged: number;

  constructor(config: Qwen2VlVisionConfig) {
    super();
    this.#merged = config.embed_dim * config.spatial_merge_size ** 2;
    this.ln_q = new LayerNorm(config.embed_dim, qwenNorm);
    this.mlp = [new Linear(this.#merged, this.#merged), undefined, new Linear(this.#merged, config.hidden_size)];
  }

  /** [patches, width] -> [patches / merge^2, hidden]. */
  forward(x: Value): Value {
    const [first, , second] = this.mlp;
    return second.forward(first.forward(reshape(this.ln_q.forward(x), [-1, this.#merged]), { act: 'gelu' }));
  }
}

class Qwen2VlVisionTransformer extends Module {
  readonly patch_embed: QwenPatchEmbed;
  readonly blocks: readonly Qwen2VlVisionBlock[];
  readonly merger: Qwen2VlPatchMerger;

  constructor(config: Qwen2VlVisionConfig) {
    super();
    this.patch_embed = new QwenPatchEmbed(config, config.embed_dim, { bias: false });
    this.blocks = Array.from({ length: config.depth }, () => new Qwen2VlVisionBlock(config));
    this.merger = new Qwen2VlPatchMerger(config);
  }

  forward({ pixelValues, patchPositions: positions, cuSeqlens }: QwenVisionInputs): Value[] {
    let x = this.patch_embed.forward(pixelValues);
    for (const block of this.blocks) x = block.forward(x, positions, cuSeqlens);
    return [this.merger.forward(x)];
  }
}

export class Qwen2VLForConditionalGeneration extends QwenVLForConditionalGeneration {
  constructor(config: QwenVlConfig<Qwen2VlVisionConfig>) {
    super(config, new Qwen2VlVisionTransformer(config.vision_config));
  }
}
