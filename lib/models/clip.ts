/** CLIP's vision transformer (Radford et al. 2021), as a tower of other models. */
import { OcelliError } from '../errors';
import { LayerNorm, Module, Parameter, concat, expand, reshape, type Value } from '../nn';
import { PatchEmbedding, PositionEmbedding, VisionEncoder, VisionModel, type VisionConfig } from './vision-encoder';
import type { VisionTower } from './vision-tower';

class ClipEmbeddings extends Module {
  readonly class_embedding: Parameter;
  readonly patch_embedding: PatchEmbedding;
  readonly position_embedding: PositionEmbedding;

  constructor(config: VisionConfig) {
    super();
    this.class_embedding = new Parameter([config.hidden_size]);
    this.patch_embedding = new PatchEmbedding(config, { bias: false });
    this.position_embedding = new PositionEmbedding(clipTower.rows(config), config.hidden_size);
  }

  forward(pixels: Value): Value {
    const patches = this.patch_embedding.forward(pixels);
    const width = this.class_embedding.shape[0]!;
    const first = expand(reshape(this.class_embedding, [1, 1, width]), [patches.shape[0]!, 1, width]);
    return this.position_embedding.forward(concat([first, patches], 1));
  }
}

class ClipVisionTransformer extends Module {
  readonly embeddings: ClipEmbeddings;
  /** Spelled so in every checkpoint. */
  readonly pre_layrnorm: LayerNorm;
  readonly encoder: VisionEncoder;

  constructor(config: VisionConfig, blocks: number) {
    super();
    this.embeddings = new ClipEmbeddings(config);
    this.pre_layrnorm = new LayerNorm(config.hidden_size, { eps: config.layer_norm_eps });
    this.encoder = new VisionEncoder(config, blocks);
  }

  forward(pixels: Value, wanted: readonly number[]): Value[] {
    return this.encoder.forward(this.pre_layrnorm.forward(this.embeddings.forward(pixels)), wanted);
  }
}

/** Rows: the class token, then one per patch. */
export const clipTower: VisionTower = {
  patchesPerSide({ image_size: side, patch_size: patch }) {
    if (side % patch === 0) return side / patch;
    throw new OcelliError(
      'ERR_CONFIG',
      `Expected vision_config.image_size to be a multiple of patch_size ${patch} but received ${side}`,
      { details: { field: 'vision_config.image_size' } },
    );
  },
  rows(config) {
    return this.patchesPerSide(config) ** 2 + 1;
  },
  create(config, selection) {
    return new VisionModel(config, selection, (blocks) => new ClipVisionTransformer(config, blocks));
  },
};
