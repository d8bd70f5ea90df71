/** InternVL 2.5 to 3.5 (Zhu et al. 2025, arXiv:2504.10479): tiles of the nearest aspect, squares of patches joined, a Qwen behind them. */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { INPUT_REGISTRY, ImageProcessor, MULTIMODAL_REGISTRY } from '../multimodal';
import { gotOcr2Grid, gotOcr2Grids, gotOcr2Views } from '../multimodal/processors/got-ocr2';
import {
  LayerNorm,
  Linear,
  Module,
  activationOf,
  mergeMultimodal,
  type Activation,
  type ForwardInputs,
  type InputSpecs,
  type Value,
} from '../nn';
import type { SupportsMultiModal } from './hooks';
import { blackImage, dummyImages, writeImages } from './image-inputs';
import { InternVisionModel, type InternVitConfig } from './intern-vit';
import { LlamaForCausalLM, type LlamaConfig } from './llama';
import { llavaWeightNames } from './llava';
import { blocksOf } from './vision-encoder';

export interface InternVlConfig {
  model_type: 'internvl';
  text_config: LlamaConfig;
  vision_config: InternVitConfig;
  image_token_index: number;
  /** Sides of the map behind the shuffle: 0.5 joins 2 x 2 patches. */
  downsample_ratio: number;
  projector_hidden_act: string;
  vision_feature_layer: number;
}

export interface InternVlInputs extends ForwardInputs {
  /** [tiles, 3, tile, tile], normalised; the thumbnail last. */
  pixelValues?: Value;
  /** Features that take the place of tower and projector: [rows, width]. */
  imageEmbeds?: Value;
}

type Kwargs = Readonly<Record<string, unknown>>;

/** Patches along the side of a square that becomes one row. */
function squareOf({ downsample_ratio: ratio, vision_config: vision }: InternVlConfig): number {
  const square = Math.round(1 / ratio);
  const side = vision.image_size / vision.patch_size;
  if (square * ratio === 1 && Number.isInteger(side) && side % square === 0) return square;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected 1 / n for downsample_ratio, n a divisor of the ${side} patches of a tile's side, but received ${ratio}`,
    { details: { field: 'downsample_ratio' } },
  );
}

/** Rows of a tile. */
function tileRows(config: InternVlConfig): number {
  return (config.vision_config.image_size / config.vision_config.patch_size / squareOf(config)) ** 2;
}

/** mmProcessorKwargs that change how many tiles a picture has. */
const sizeKwargs = { kwargs: ['cropToPatches', 'minPatches', 'maxPatches', 'size'] };

/** The picture with the most tiles: one that fills the largest grid. */
function largest(ctx: InputContext, kwargs: Kwargs): { height: number; width: number; views: number } {
  const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
  const side = ctx.getHfConfig<InternVlConfig>('internvl').vision_config.image_size;
  const [rows, cols] = gotOcr2Grids(processor).at(-1)!;
  const [height, width] = [rows * side, cols * side];
  return { height, width, views: gotOcr2Views(gotOcr2Grid(height, width, processor)) };
}

export function getMaxInternVlImageTokens(ctx: InputContext, kwargs: Kwargs): number {
  return largest(ctx, kwargs).views * tileRows(ctx.getHfConfig<InternVlConfig>('internvl'));
}

export function dummyDataForInternVl(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
  kwargs: Kwargs,
): DummyData {
  const config = ctx.getHfConfig<InternVlConfig>('internvl');
  const { height, width, views } = largest(ctx, kwargs);
  const rows = views * tileRows(config);
  return dummyImages(seqLen, mmCounts.image!, config.image_token_index, rows, blackImage(width, height));
}

export function inputProcessorForInternVl(ctx: InputContext, inputs: LLMInputs, kwargs: Kwargs): LLMInputs {
  const config = ctx.getHfConfig<InternVlConfig>('internvl');
  const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
  const token = config.image_token_index;
  return writeImages(
    inputs,
    {
      placeholderTokenId: token,
      width: config.text_config.hidden_size,
      ofPicture: ({ height, width }) => gotOcr2Views(gotOcr2Grid(height, width, processor)) * tileRows(config),
      ofMapped: ({ pixelValues, imageEmbeds }) =>
        imageEmbeds?.shape.at(-2) ?? (pixelValues?.shape.at(-4) ?? 0) * tileRows(config),
      ofEmbeds: (rows) => rows,
    },
    (rows) => [
      { text: '<img>', trusted: true },
      { ids: new Array<number>(rows).fill(token) },
      { text: '</img>', trusted: true },
    ],
  );
}

class InternVlProjector extends Module {
  readonly layer_norm: LayerNorm;
  readonly linear_1: Linear;
  readonly linear_2: Linear;
  readonly #act: Activation;

  constructor(config: InternVlConfig) {
    super();
    const joined = config.vision_config.hidden_size * squareOf(config) ** 2;
    const width = config.text_config.hidden_size;
    this.layer_norm = new LayerNorm(joined, { eps: 1e-5 });
    this.linear_1 = new Linear(joined, width);
    this.linear_2 = new Linear(width, width);
    this.#act = activationOf(config.projector_hidden_act, 'projector_hidden_act');
  }

  forward(x: Value): Value {
    return this.linear_2.forward(this.linear_1.forward(this.layer_norm.forward(x), { act: this.#act }));
  }
}

@MULTIMODAL_REGISTRY.registerImageInputMapper()
@MULTIMODAL_REGISTRY.registerMaxImageTokens(getMaxInternVlImageTokens, sizeKwargs)
@INPUT_REGISTRY.registerDummyData(dummyDataForInternVl, sizeKwargs)
@INPUT_REGISTRY.registerInputProcessor(inputProcessorForInternVl, sizeKwargs)
export class InternVLForConditionalGeneration extends Module implements SupportsMultiModal {
  static readonly supportsMultimodal = true;
  static readonly forms = [['pixelValues'], ['imageEmbeds'], []];

  static inputs(config: InternVlConfig): InputSpecs {
    const { num_channels: channels, image_size: side } = config.vision_config;
    return {
      pixelValues: { dtype: 'float32', shape: ['P', channels, side, side] },
      imageEmbeds: { dtype: 'float32', shape: ['L', config.text_config.hidden_size] },
    };
  }

  static readonly weightNames = llavaWeightNames;

  readonly vision_tower: InternVisionModel;
  readonly multi_modal_projector: InternVlProjector;
  readonly language_model: LlamaForCausalLM;
  readonly #imageToken: number;

  constructor(config: InternVlConfig) {
    super();
    const blocks = blocksOf(config.vision_feature_layer, config.vision_config.num_hidden_layers);
    this.vision_tower = new InternVisionModel(config.vision_config, { blocks, square: squareOf(config) });
    this.multi_modal_projector = new InternVlProjector(config);
    this.language_model = new LlamaForCausalLM(config.text_config);
    this.#imageToken = config.image_token_index;
  }

  forward(inputs: InternVlInputs): Value {
    const { inputIds, pixelValues, imageEmbeds } = inputs;
    const features = pixelValues
      ? this.multi_modal_projector.forward(this.vision_tower.forward(pixelValues))
      : imageEmbeds;
    const embeds = this.language_model.model.embed_tokens.forward(inputIds);
    return this.language_model.forward(inputs, mergeMultimodal(embeds, inputIds, features, this.#imageToken));
  }

  computeLogits(hidden: Value): Value {
    return this.language_model.computeLogits(hidden);
  }
}
