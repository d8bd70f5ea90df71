/** LLaVA-OneVision (Li et al. 2024, arXiv:2408.03326): LLaVA-NeXT with SigLIP and Qwen2, whose large maps are scaled down to so many tiles. */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { Tensor } from '../media/tensor';
import { INPUT_REGISTRY, MULTIMODAL_REGISTRY } from '../multimodal';
import {
  Module,
  Parameter,
  concat,
  mergeMultimodal,
  reshape,
  rowsOf,
  type ForwardInputs,
  type InputSpecs,
  type Value,
  type WeightNameRule,
} from '../nn';
import { anyresShape, anyresTokens, featureOf, largestPicture, type Anyres } from './anyres';
import { Corners, blendCorners, centredPlaces } from './bilinear';
import type { MappedItem, SupportsMultiModal } from './hooks';
import { expandImages } from './image-inputs';
import { LlamaForCausalLM } from './llama';
import { LlavaMultiModalProjector } from './llava';
import { llavaNextWeightNames, mappedPicture, tilesOf, type LlavaNextLikeConfig } from './llava_next';
import { cornersOfVideo, largestOnevisionVideo, mapOnevisionVideo, onevisionVideoKwargs } from './onevision-video';
import {
  checkVideoRows,
  dummyPicturesAndVideos,
  engineKwargs,
  expandVideos,
  isVideo,
  pictureAndVideoForms,
  type LargestVideo,
} from './video-inputs';
import type { VisionModel } from './vision-encoder';
import { towerOf } from './vision-tower';

export interface LlavaOnevisionConfig extends LlavaNextLikeConfig {
  model_type: 'llava_onevision';
  vision_aspect_ratio: string;
  video_token_index: number;
}

export interface LlavaOnevisionInputs extends ForwardInputs {
  /** [1 + tiles, 3, tile, tile], normalised; the whole picture first. */
  pixelValues?: Value;
  /** [frames, 3, tile, tile]: a video in place of a picture. */
  pixelValuesVideos?: Value;
  /** [4, rows]: the features around each row of the picture, and how much of each. */
  featureIndex?: Value;
  featureWeight?: Value;
  /** Features that take the place of all that: [rows, width]. */
  imageEmbeds?: Value;
  videoEmbeds?: Value;
}

function configOf(ctx: InputContext): LlavaOnevisionConfig {
  return ctx.getHfConfig<LlavaOnevisionConfig>('llava_onevision');
}

function anyresOf(config: LlavaOnevisionConfig): Anyres {
  const ratio = config.vision_aspect_ratio;
  const [known, most] = /^anyres(?:_max_([1-9]\d*))?$/.exec(ratio) ?? [];
  if (known !== undefined) return { ...tilesOf(config), ...(most === undefined ? {} : { maxTiles: Number(most) }) };
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected anyres, or anyres_max_ and a number of tiles, for vision_aspect_ratio but received '${ratio}'`,
    { details: { field: 'vision_aspect_ratio' } },
  );
}

/** visionAspectRatio: 'pad' makes a picture one tile, padded to a square; the configuration's own cuts it. */
const shapeKwargs = { kwargs: ['visionAspectRatio', 'maxVideoTokens'] };

/** @param otherwise where the call says nothing */
function isCut(config: LlavaOnevisionConfig, { visionAspectRatio: given }: Kwargs, otherwise: boolean): boolean {
  if (given === undefined) return otherwise;
  if (given === 'pad' || given === config.vision_aspect_ratio) return given !== 'pad';
  throw new OcelliError(
    'ERR_MM_PROCESSOR_KWARGS',
    `Expected 'pad' or '${config.vision_aspect_ratio}' for mmProcessorKwargs.visionAspectRatio but received ${JSON.stringify(given)}`,
    { details: { field: 'visionAspectRatio' } },
  );
}

type Kwargs = Readonly<Record<string, unknown>>;

/** Rows of a mapped picture, as corners among its tiles' features and the newline behind them. */
function cornersOf(anyres: Anyres, tensors: MappedItem['tensors']): Corners {
  const { tiles, map } = mappedPicture(anyres, tensors);
  const whole = anyres.side ** 2;
  const newline = tiles * whole;
  const [rows, cols] = map ? anyresShape(map, anyres) : [1, 0];
  const corners = new Corners(whole + rows * (cols + 1));
  let at = 0;
  for (; at < whole; at++) corners.copy(at, at);
  const ys = map ? centredPlaces(map.rows, rows) : [undefined];
  const xs = map ? centredPlaces(map.cols, cols) : [];
  for (const y of ys) {
    for (const x of xs) corners.blend(at++, y!, x, (row, col) => featureOf(map!, anyres, row, col));
    corners.copy(at++, newline);
  }
  return corners;
}

/** What a picture costs at most: the most expensive one, cut, or any one as a single tile. */
function largest(ctx: InputContext, kwargs: Kwargs): ReturnType<typeof largestPicture> {
  const config = configOf(ctx);
  const anyres = anyresOf(config);
  if (isCut(config, kwargs, true)) return largestPicture(anyres);
  return { height: anyres.tile, width: anyres.tile, tokens: anyres.side ** 2 + 1 };
}

export function getMaxLlavaOnevisionImageTokens(ctx: InputContext, kwargs: Kwargs): number {
  return largest(ctx, kwargs).tokens;
}

const largestVideo = (ctx: InputContext, kwargs: Kwargs): LargestVideo =>
  largestOnevisionVideo(anyresOf(configOf(ctx)), kwargs);

function getMaxLlavaOnevisionVideoTokens(ctx: InputContext, kwargs: Kwargs): number {
  return largestVideo(ctx, kwargs).rows;
}

export function dummyDataForLlavaOnevision(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
  kwargs: Kwargs,
): DummyData {
  return dummyPicturesAndVideos(seqLen, mmCounts, configOf(ctx), largest(ctx, kwargs), largestVideo(ctx, kwargs));
}

/** A picture alone in its prompt is cut into tiles; each of several is one, unless the call says otherwise. */
export function inputProcessorForLlavaOnevision(ctx: InputContext, inputs: LLMInputs, kwargs: Kwargs): LLMInputs {
  const config = configOf(ctx);
  const anyres = anyresOf(config);
  const data = inputs.multiModalData?.image ?? undefined;
  const alone = data === undefined || MULTIMODAL_REGISTRY.getPlugin('image').countItems(data) < 2;
  const cut = isCut(config, kwargs, alone);
  const pictures = expandImages(inputs, {
    placeholderTokenId: config.image_token_index,
    width: config.text_config.hidden_size,
    ofPicture: ({ height, width }) => (cut ? anyresTokens(height, width, anyres) : anyres.side ** 2 + 1),
    ofMapped: (tensors) => cornersOf(anyres, tensors).rows,
  });
  const expanded = expandVideos(pictures, {
    placeholderTokenId: config.video_token_index,
    width: config.text_config.hidden_size,
    ofFrames: (frames) => {
      const { rows } = cornersOfVideo(anyres, frames.length);
      checkVideoRows(rows, frames, largestVideo(ctx, engineKwargs(ctx, shapeKwargs.kwargs)));
      return rows;
    },
    ofMapped: ({ pixelValuesVideos }) => cornersOfVideo(anyres, pixelValuesVideos?.shape.at(-4) ?? 0).rows,
  });
  if (cut || kwargs.visionAspectRatio !== undefined) return expanded;
  // The mapper sees one picture at a time: it has to be told.
  return { ...expanded, mmProcessorKwargs: { ...inputs.mmProcessorKwargs, visionAspectRatio: 'pad' } };
}

@MULTIMODAL_REGISTRY.registerImageInputMapper()
@MULTIMODAL_REGISTRY.registerMaxImageTokens(getMaxLlavaOnevisionImageTokens, shapeKwargs)
@MULTIMODAL_REGISTRY.registerVideoInputMapper(mapOnevisionVideo, onevisionVideoKwargs)
@MULTIMODAL_REGISTRY.registerMaxMultimodalTokens('video', getMaxLlavaOnevisionVideoTokens, shapeKwargs)
@INPUT_REGISTRY.registerDummyData(dummyDataForLlavaOnevision, shapeKwargs)
@INPUT_REGISTRY.registerInputProcessor(inputProcessorForLlavaOnevision, shapeKwargs)
export class LlavaOnevisionForConditionalGeneration extends Module implements SupportsMultiModal {
  static readonly supportsMultimodal = true;
  static readonly forms = pictureAndVideoForms('featureIndex', 'featureWeight');

  static inputs(config: LlavaOnevisionConfig): InputSpecs {
    const { num_channels: channels, image_size: side } = config.vision_config;
    const tiles = { dtype: 'float32', shape: ['P', channels, side, side] } as const;
    const embeds = { dtype: 'float32', shape: ['L', config.text_config.hidden_size] } as const;
    return {
      pixelValues: tiles,
      pixelValuesVideos: tiles,
      featureIndex: { dtype: 'int32', shape: [4, 'R'], kind: 'rowIndex', of: 'pixelValues' },
      featureWeight: { dtype: 'float32', shape: [4, 'R'] },
      imageEmbeds: embeds,
      videoEmbeds: embeds,
    };
  }

  static prepare(ctx: InputContext, { tensors }: MappedItem): Record<string, Tensor> {
    const { pixelValues, pixelValuesVideos: frames } = tensors;
    if (pixelValues === undefined && frames === undefined) return {};
    const anyres = anyresOf(configOf(ctx));
    const { index, weight, rows } = frames ? cornersOfVideo(anyres, frames.shape[0]!) : cornersOf(anyres, tensors);
    return {
      featureIndex: new Tensor('int32', [4, rows], index),
      featureWeight: new Tensor('float32', [4, rows], weight),
    };
  }

  static readonly weightNames: readonly WeightNameRule[] = llavaNextWeightNames;

  readonly vision_tower: VisionModel;
  readonly multi_modal_projector: LlavaMultiModalProjector;
  readonly image_newline: Parameter;
  readonly language_model: LlamaForCausalLM;
  readonly #imageToken: number;
  readonly #videoToken: number;

  constructor(config: LlavaOnevisionConfig) {
    super();
    anyresOf(config);
    this.vision_tower = towerOf(config.vision_config).create(config.vision_config, {
      layers: config.vision_feature_layer,
      strategy: config.vision_feature_select_strategy,
    });
    this.multi_modal_projector = new LlavaMultiModalProjector(config);
    this.image_newline = new Parameter([config.text_config.hidden_size]);
    this.language_model = new LlamaForCausalLM(config.text_config);
    this.#imageToken = config.image_token_index;
    this.#videoToken = config.video_token_index;
  }

  forward(inputs: LlavaOnevisionInputs): Value {
    const { inputIds } = inputs;
    const embeds = this.language_model.model.embed_tokens.forward(inputIds);
    const features = this.#features(inputs);
    const [image, video] = isVideo(inputs) ? [undefined, features] : [features, undefined];
    const pictures = mergeMultimodal(embeds, inputIds, image, this.#imageToken);
    const merged = mergeMultimodal(pictures, inputIds, video, this.#videoToken, { modality: 'video' });
    return this.language_model.forward(inputs, merged);
  }

  /** [rows, width]: unpadding, scaling and newlines are one blend of rows. */
  #features({ featureIndex, featureWeight, ...inputs }: LlavaOnevisionInputs): Value | undefined {
    const pixelValues = inputs.pixelValuesVideos ?? inputs.pixelValues;
    if (pixelValues === undefined || featureIndex === undefined || featureWeight === undefined)
      return inputs.videoEmbeds ?? inputs.imageEmbeds;
    const features = rowsOf(this.multi_modal_projector.forward(this.vision_tower.forward(pixelValues)));
    const newline = reshape(this.image_newline, [1, features.shape[1]!]);
    return blendCorners(concat([features, newline]), featureIndex, featureWeight);
  }

  computeLogits(hidden: Value): Value {
    return this.language_model.computeLogits(hidden);
  }
}
