/** LLaVA-1.5 (Liu et al. 2023): a tower's features, projected by two layers, in the place of `<image>`. */
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { INPUT_REGISTRY, MULTIMODAL_REGISTRY } from '../multimodal';
import {
  Linear,
  Module,
  activationOf,
  mergeMultimodal,
  type Activation,
  type ForwardInputs,
  type InputSpecs,
  type Value,
  type WeightNameRule,
} from '../nn';
import { blackImage, dummyImages, expandImages } from './image-inputs';
import type { SupportsMultiModal } from './hooks';
import { LlamaForCausalLM, type LlamaConfig } from './llama';
import type { FeatureSelectStrategy, VisionConfig, VisionModel } from './vision-encoder';
import { selectedRows, towerOf } from './vision-tower';

/** What LLaVA and LLaVA-NeXT have in common. */
export interface LlavaLikeConfig {
  text_config: LlamaConfig;
  vision_config: VisionConfig;
  image_token_index: number;
  projector_hidden_act: string;
  multimodal_projector_bias: boolean;
  vision_feature_layer: number | readonly number[];
  vision_feature_select_strategy: FeatureSelectStrategy;
}

export interface LlavaConfig extends LlavaLikeConfig {
  model_type: 'llava';
}

export interface LlavaInputs extends ForwardInputs {
  /** [pictures, 3, height, width], normalised. */
  pixelValues?: Value;
  /** Features that take the place of tower and projector: [rows, width]. */
  imageEmbeds?: Value;
}

function imageTokens(config: LlavaConfig): number {
  return selectedRows(config.vision_config, config.vision_feature_select_strategy);
}

export function getMaxLlavaImageTokens(ctx: InputContext): number {
  return imageTokens(ctx.getHfConfig<LlavaConfig>('llava'));
}

export function dummyDataForLlava(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
): DummyData {
  const config = ctx.getHfConfig<LlavaConfig>('llava');
  const side = config.vision_config.image_size;
  return dummyImages(seqLen, mmCounts.image!, config.image_token_index, imageTokens(config), blackImage(side, side));
}

export function inputProcessorForLlava(ctx: InputContext, inputs: LLMInputs): LLMInputs {
  const config = ctx.getHfConfig<LlavaConfig>('llava');
  return expandImages(inputs, {
    placeholderTokenId: config.image_token_index,
    width: config.text_config.hidden_size,
    ofPicture: () => imageTokens(config),
    ofMapped: () => imageTokens(config),
  });
}

export class LlavaMultiModalProjector extends Module {
  readonly linear_1: Linear;
  readonly linear_2: Linear;
  readonly #act: Activation;

  constructor(config: Omit<LlavaLikeConfig, 'vision_config'> & { vision_config: { hidden_size: number } }) {
    super();
    const bias = config.multimodal_projector_bias;
    const layers = typeof config.vision_feature_layer === 'number' ? 1 : config.vision_feature_layer.length;
    const width = config.text_config.hidden_size;
    this.linear_1 = new Linear(config.vision_config.hidden_size * layers, width, { bias });
    this.linear_2 = new Linear(width, width, { bias });
    this.#act = activationOf(config.projector_hidden_act, 'projector_hidden_act');
  }

  forward(features: Value): Value {
    return this.linear_2.forward(this.linear_1.forward(features, { act: this.#act }));
  }
}

/** transformers 5 moved the parts below `model.`; newer towers drop `vision_model.`. */
export const llavaWeightNames: readonly WeightNameRule[] = [
  ['language_model.model.', 'model.language_model.'],
  ['language_model.model.', 'language_model.'],
  ['language_model.lm_head.', 'lm_head.'],
  ['vision_tower.', 'model.vision_tower.'],
  ['vision_tower.vision_model.', 'model.vision_tower.'],
  ['vision_tower.vision_model.', 'vision_tower.'],
  ['multi_modal_projector.', 'model.multi_modal_projector.'],
];

@MULTIMODAL_REGISTRY.registerImageInputMapper()
@MULTIMODAL_REGISTRY.registerMaxImageTokens(getMaxLlavaImageTokens)
@INPUT_REGISTRY.registerDummyData(dummyDataForLlava)
@INPUT_REGISTRY.registerInputProcessor(inputProcessorForLlava)
export class LlavaForConditionalGeneration extends Module implements SupportsMultiModal {
  static readonly supportsMultimodal = true;
  static readonly forms = [['pixelValues'], ['imageEmbeds'], []];

  static inputs(config: LlavaConfig): InputSpecs {
    const { num_channels: channels, image_size: side } = config.vision_config;
    return {
      pixelValues: { dtype: 'float32', shape: ['N', channels, side, side] },
      imageEmbeds: { dtype: 'float32', shape: ['L', config.text_config.hidden_size] },
    };
  }

  static readonly weightNames = llavaWeightNames;

  readonly vision_tower: VisionModel;
  readonly multi_modal_projector: LlavaMultiModalProjector;
  readonly language_model: LlamaForCausalLM;
  readonly #imageToken: number;

  constructor(config: LlavaConfig) {
    super();
    this.vision_tower = towerOf(config.vision_config).create(config.vision_config, {
      layers: config.vision_feature_layer,
      strategy: config.vision_feature_select_strategy,
    });
    this.multi_modal_projector = new LlavaMultiModalProjector(config);
    this.language_model = new LlamaForCausalLM(config.text_config);
    this.#imageToken = config.image_token_index;
  }

  forward(inputs: LlavaInputs): Value {
    const { inputIds, pixelValues, imageEmbeds } = inputs;
    const features =
      pixelValues === undefined
        ? imageEmbeds
        : this.multi_modal_projector.forward(this.vision_tower.forward(pixelValues));
    const embeds = this.language_model.model.embed_tokens.forward(inputIds);
    const merged = mergeMultimodal(embeds, inputIds, features, this.#imageToken);
    return this.language_model.forward(inputs, merged);
  }

  computeLogits(hidden: Value): Value {
    return this.language_model.computeLogits(hidden);
  }
}
