/** SigLIP's vision transformer (Zhai et al. 2023), as a tower of other models: no class token, no norm before the blocks. */
import { Module, type Value } from '../nn';
import { PatchEmbedding, PositionEmbedding, VisionEncoder, VisionModel, type VisionConfig } from './vision-encoder';
import type { VisionTower } from './vision-tower';

class SiglipEmbeddings extends Module {
  readonly patch_embedding: PatchEmbedding;
  readonly position_embedding: PositionEmbedding;

  constructor(config: VisionConfig) {
    super();
    this.patch_embedding = new PatchEmbedding(config, { bias: true });
    this.position_embedding = new PositionEmbedding(siglipTower.rows(config), config.hidden_size);
  }

  forward(pixels: Value): Value {
    return this.position_embedding.forward(this.patch_embedding.forward(pixels));
  }
}

class SiglipVisionTransformer extends Module {
  readonly embeddings: SiglipEmbeddings;
  readonly encoder: VisionEncoder;

  constructor(config: VisionConfig, blocks: number) {
    super();
    this.embeddings = new SiglipEmbeddings(config);
    this.encoder = new VisionEncoder(config, blocks);
  }

  forward(pixels: Value, wanted: readonly number[]): Value[] {
    return this.encoder.forward(this.embeddings.forward(pixels), wanted);
  }
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
    return new VisionModel(config, selection, (blocks) => new SiglipVisionTransformer(config, blocks));
  },
};
