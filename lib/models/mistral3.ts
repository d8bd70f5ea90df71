/** Mistral 3.1 and later (Mistral AI 2025): Pixtral whose patches are merged, two by two, before they are projected. */
import { Linear, Module, Parameter, RMSNorm, activationOf, linear, reshape, type Activation, type Value } from '../nn';
import { PixtralForConditionalGeneration, type PixtralConfig } from './pixtral';

export interface Mistral3Config extends PixtralConfig {
  model_type: 'mistral3';
  spatial_merge_size: number;
}

/** A product over the joined patches of a square. The checkpoint has its columns channel by channel, the rows come patch by patch. */
class MergingLayer extends Module {
  readonly weight: Parameter;

  constructor(width: number, patches: number) {
    super();
    this.weight = new Parameter([width, width * patches], { transposed: [width, patches] });
  }

  forward(x: Value): Value {
    return linear(x, this.weight);
  }
}

class PatchMerger extends Module {
  readonly merging_layer: MergingLayer;
  readonly #joined: number;

  constructor({ vision_config: { hidden_size: width }, spatial_merge_size: merge }: Mistral3Config) {
    super();
    this.merging_layer = new MergingLayer(width, merge ** 2);
    this.#joined = width * merge ** 2;
  }

  /** [patches, width], squares one after the other -> [squares, width]. */
  forward(x: Value): Value {
    return this.merging_layer.forward(reshape(x, [-1, this.#joined]));
  }
}

class Mistral3Projector extends Module {
  readonly norm: RMSNorm;
  readonly patch_merger: PatchMerger;
  readonly linear_1: Linear;
  readonly linear_2: Linear;
  readonly #act: Activation;

  constructor(config: Mistral3Config) {
    super();
    const { vision_config: vision, text_config: text, multimodal_projector_bias: bias } = config;
    this.norm = new RMSNorm(vision.hidden_size, { eps: text.rms_norm_eps });
    this.patch_merger = new PatchMerger(config);
    this.linear_1 = new Linear(vision.hidden_size, text.hidden_size, { bias });
    this.linear_2 = new Linear(text.hidden_size, text.hidden_size, { bias });
    this.#act = activationOf(config.projector_hidden_act, 'projector_hidden_act');
  }

  forward(features: Value): Value {
    const merged = this.patch_merger.forward(this.norm.forward(features));
    return this.linear_2.forward(this.linear_1.forward(merged, { act: this.#act }));
  }
}

export class Mistral3ForConditionalGeneration extends PixtralForConditionalGeneration {
  constructor(config: Mistral3Config) {
    super(config, new Mistral3Projector(config));
  }
}
