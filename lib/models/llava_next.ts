/** LLaVA-NeXT (Liu et al. 2024): LLaVA with pictures of any shape, as one whole tile and the tiles of their best grid. */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { Tensor } from '../media/tensor';
import { INPUT_REGISTRY, MULTIMODAL_REGISTRY } from '../multimodal';
import { gridPinpoints } from '../multimodal/processors/llava-next';
import {
  Module,
  Parameter,
  concat,
  gatherRows,
  mergeMultimodal,
  reshape,
  rowsOf,
  type ForwardInputs,
  type InputSpecs,
  type Value,
  type WeightNameRule,
} from '../nn';
import { anyresIndex, anyresMap, anyresTokens, largestPicture, type Anyres, type AnyresMap } from './anyres';
import type { MappedItem, SupportsMultiModal } from './hooks';
import { blackImage, dummyImages, expandImages, integersOf } from './image-inputs';
import { LlamaForCausalLM } from './llama';
import { LlavaMultiModalProjector, llavaWeightNames, type LlavaLikeConfig } from './llava';
import type { VisionModel } from './vision-encoder';
import { selectedRows, towerOf } from './vision-tower';

/** What LLaVA-NeXT and LLaVA-OneVision have in common. */
export interface LlavaNextLikeConfig extends LlavaLikeConfig {
  image_grid_pinpoints: readonly (readonly [number, number])[];
}

export interface LlavaNextConfig extends LlavaNextLikeConfig {
  model_type: 'llava_next';
}

export interface LlavaNextInputs extends ForwardInputs {
  /** [1 + tiles, 3, tile, tile], normalised; the whole picture first. */
  pixelValues?: Value;
  /** [rows]: which feature each row of the picture is. */
  featureIndex?: Value;
  /** Features that take the place of all that: [rows, width]. */
  imageEmbeds?: Value;
}

/** The grids of tiles that the configuration names, checked. */
export function tilesOf(config: LlavaNextLikeConfig): Anyres {
  const { vision_config: vision } = config;
  const pinpoints = gridPinpoints(config.image_grid_pinpoints);
  const tile = vision.image_size;
  const side = towerOf(vision).patchesPerSide(vision);
  const odd = pinpoints.find((p) => p.some((n) => n % tile !== 0));
  if (odd) {
    throw new OcelliError(
      'ERR_CONFIG',
      `Expected multiples of vision_config.image_size ${tile} for image_grid_pinpoints but received [${odd.join(', ')}]`,
      { details: { field: 'image_grid_pinpoints' } },
    );
  }
  if (selectedRows(vision, config.vision_feature_select_strategy) !== side ** 2) {
    throw new OcelliError(
      'ERR_CONFIG',
      `Expected a strategy that leaves the ${side}x${side} patches of a tile for vision_feature_select_strategy but received '${config.vision_feature_select_strategy}'`,
      { details: { field: 'vision_feature_select_strategy' } },
    );
  }
  return { pinpoints, tile, side };
}

/** How many tiles a mapped picture has, and their map; one that is its whole view alone has none. */
export function mappedPicture(
  anyres: Anyres,
  tensors: Readonly<Record<string, Tensor>>,
): { tiles: number; map?: AnyresMap } {
  const { pixelValues, imageSizes } = tensors;
  const [height, width] = imageSizes === undefined ? [] : integersOf(imageSizes).slice(-2);
  const tiles = pixelValues?.shape.at(-4);
  if (height === undefined || width === undefined || tiles === undefined || height < 1 || width < 1) {
    throw new OcelliError(
      'ERR_IMAGE_SIZE',
      `Expected pixelValues [1, tiles, 3, ${anyres.tile}, ${anyres.tile}] and imageSizes [1, 2] (height, width) for a mapped picture but received ${Object.keys(tensors).join(', ')}`,
    );
  }
  if (tiles === 1) return { tiles };
  const map = anyresMap(height, width, anyres);
  if (tiles > map.tileRows * map.tileCols) return { tiles, map };
  throw new OcelliError(
    'ERR_IMAGE_SIZE',
    `Expected 1 + ${map.tileRows * map.tileCols} tiles for a picture of ${width}x${height} but received ${tiles}`,
    { hint: 'image_grid_pinpoints of config.json and of preprocessor_config.json must be the same.' },
  );
}

/** Rows of a mapped picture, as an index into its tiles' features and the newline behind them. */
function featureIndex(anyres: Anyres, tensors: Readonly<Record<string, Tensor>>): Int32Array {
  const { tiles, map } = mappedPicture(anyres, tensors);
  const newline = tiles * anyres.side ** 2;
  return map ? anyresIndex(map, anyres, newline) : Int32Array.from({ length: newline + 1 }, (_, i) => i);
}

export function getMaxLlavaNextImageTokens(ctx: InputContext): number {
  return largestPicture(tilesOf(ctx.getHfConfig<LlavaNextConfig>('llava_next'))).tokens;
}

export function dummyDataForLlavaNext(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
): DummyData {
  const config = ctx.getHfConfig<LlavaNextConfig>('llava_next');
  const { height, width, tokens } = largestPicture(tilesOf(config));
  return dummyImages(seqLen, mmCounts.image!, config.image_token_index, tokens, blackImage(width, height));
}

export function inputProcessorForLlavaNext(ctx: InputContext, inputs: LLMInputs): LLMInputs {
  const config = ctx.getHfConfig<LlavaNextConfig>('llava_next');
  const anyres = tilesOf(config);
  return expandImages(inputs, {
    placeholderTokenId: config.image_token_index,
    width: config.text_config.hidden_size,
    ofPicture: ({ height, width }) => anyresTokens(height, width, anyres),
    ofMapped: (tensors) => featureIndex(anyres, tensors).length,
  });
}

export const llavaNextWeightNames: readonly WeightNameRule[] = [
  ...llavaWeightNames,
  ['image_newline', 'model.image_newline'],
];

@MULTIMODAL_REGISTRY.registerImageInputMapper()
@MULTIMODAL_REGISTRY.registerMaxImageTokens(getMaxLlavaNextImageTokens)
@INPUT_REGISTRY.registerDummyData(dummyDataForLlavaNext)
@INPUT_REGISTRY.registerInputProcessor(inputProcessorForLlavaNext)
export class LlavaNextForConditionalGeneration extends Module implements SupportsMultiModal {
  static readonly supportsMultimodal = true;
  static readonly forms = [['pixelValues', 'featureIndex'], ['imageEmbeds'], []];

  static inputs(config: LlavaNextConfig): InputSpecs {
    const { num_channels: channels, image_size: side } = config.vision_config;
    return {
      pixelValues: { dtype: 'float32', shape: ['P', channels, side, side] },
      featureIndex: { dtype: 'int32', shape: ['R'], kind: 'rowIndex', of: 'pixelValues' },
      imageEmbeds: { dtype: 'float32', shape: ['L', config.text_config.hidden_size] },
    };
  }

  static prepare(ctx: InputContext, { tensors }: MappedItem): Record<string, Tensor> {
    if (tensors.pixelValues === undefined) return {};
    const index = featureIndex(tilesOf(ctx.getHfConfig<LlavaNextConfig>('llava_next')), tensors);
    return { featureIndex: new Tensor('int32', [index.length], index) };
  }

  static readonly weightNames = llavaNextWeightNames;

  readonly vision_tower: VisionModel;
  readonly multi_modal_projector: LlavaMultiModalProjector;
  readonly image_newline: Parameter;
  readonly language_model: LlamaForCausalLM;
  readonly #imageToken: number;

  constructor(config: LlavaNextConfig) {
    super();
    tilesOf(config);
    this.vision_tower = towerOf(config.vision_config).create(config.vision_config, {
      layers: config.vision_feature_layer,
      strategy: config.vision_feature_select_strategy,
    });
    this.multi_modal_projector = new LlavaMultiModalProjector(config);
    this.image_newline = new Parameter([config.text_config.hidden_size]);
    this.language_model = new LlamaForCausalLM(config.text_config);
    this.#imageToken = config.image_token_index;
  }

  forward(inputs: LlavaNextInputs): Value {
    const { inputIds } = inputs;
    const embeds = this.language_model.model.embed_tokens.forward(inputIds);
    const merged = mergeMultimodal(embeds, inputIds, this.#features(inputs), this.#imageToken);
    return this.language_model.forward(inputs, merged);
  }

  /** [rows, width]: unpadding and newlines are one choice of rows. */
  #features({ pixelValues, featureIndex: index, imageEmbeds }: LlavaNextInputs): Value | undefined {
    if (pixelValues === undefined || index === undefined) return imageEmbeds;
    const features = rowsOf(this.multi_modal_projector.forward(this.vision_tower.forward(pixelValues)));
    const newline = reshape(this.image_newline, [1, features.shape[1]!]);
    return gatherRows(concat([features, newline]), index);
  }

  computeLogits(hidden: Value): Value {
    return this.language_model.computeLogits(hidden);
  }
}
