/** SigLIP's vision transformer (Zhai et al. 2023), as a tower of other models: no class token, no norm before the blocks. */
import { LayerNorm, Module, type Value } from '../nn';
import { PatchEmbedding, PositionEmbedding, VisionEncoder, VisionModel, type VisionConfig } from './vision-encoder';
import type { VisionTower } from './vision-tower';

export interface SiglipOptions {
  /** How many blocks are made; default: all. */
  blocks?: number;
  /** The norm behind the last block, where the family uses it. */
  postNorm?: boolean;
  /** Patches come in squares of so many a side, one after the other, so that a square's rows can be joined by a reshape. */
  square?: number;
  /** Row of the position table for each place of a picture, row by row; default: the place itself. */
  places?: readonly number[];
}

class SiglipEmbeddings extends Module {
  readonly patch_embedding: PatchEmbedding;
  readonly position_embedding: PositionEmbedding;

  constructor(config: VisionConfig, { square = 1, places }: SiglipOptions) {
    super();
    const side = siglipTower.patchesPerSide(config);
    const rows = side ** 2;
    const order = square === 1 && !places ? undefined : squareOrder(side, square).map((i) => places?.[i] ?? i);
    this.patch_embedding = new PatchEmbedding(config, { bias: true, square });
    this.position_embedding = new PositionEmbedding(rows, config.hidden_size, order);
  }

  forward(pixels: Value): Value {
    return this.position_embedding.forward(this.patch_embedding.forward(pixels));
  }
}

export class SiglipVisionTransformer extends Module {
  readonly embeddings: SiglipEmbeddings;
  readonly encoder: VisionEncoder;
  readonly post_layernorm?: LayerNorm;
  readonly #blocks: number;

  constructor(config: VisionConfig, options: SiglipOptions = {}) {
    super();
    this.#blocks = options.blocks ?? config.num_hidden_layers;
    this.embeddings = new SiglipEmbeddings(config, options);
    this.encoder = new VisionEncoder(config, this.#blocks);
    if (options.postNorm) this.post_layernorm = new LayerNorm(config.hidden_size, { eps: config.layer_norm_eps });
  }

  forward(pixels: Value, wanted: readonly number[]): Value[] {
    return this.encoder.forward(this.embeddings.forward(pixels), wanted);
  }

  /** [N, C, H, W] -> [N, patches, width]: what the last block leaves, normed where the family does. */
  features(pixels: Value): Value {
    const [last] = this.forward(pixels, [this.#blocks]);
    return this.post_layernorm?.forward(last!) ?? last!;
  }
}

/** A tower that is one transformer under the name `vision_model`, as PaliGemma and Gemma 3 have it. */
export class SiglipVisionModel extends Module {
  readonly vision_model: SiglipVisionTransformer;

  constructor(config: VisionConfig, options: SiglipOptions) {
    super();
    this.vision_model = new SiglipVisionTransformer(config, options);
  }

  forward(pixels: Value): Value {
    return this.vision_model.features(pixels);
  }
}

/** Places of a picture of rows x cols, row by row, in the order of squares: row by row of squares, and inside each. */
export function squareOrder(rows: number, square: number, cols = rows): number[] {
  const order: number[] = [];
  for (let top = 0; top < rows; top += square) {
    for (let left = 0; left < cols; left += square) {
      for (let i = 0; i < square ** 2; i++) order.push((top + Math.floor(i / square)) * cols + left + (i % square));
    }
  }
  return order;
}

/** Rows: one per patch. */
export const siglipTower: VisionTower = {
  patchesPerSide({ image_size: side, patch_size: patch }) {
    return Math.floor(side / patch);
  },
  rows(config) {
    return this.patchesPerSide(config) ** 2;
  },
  create(config, selection) {
    return new VisionModel(config, selection, (blocks) => new SiglipVisionTransformer(config, { blocks }));
  },
};
