/** Gemma 3 (Gemma team 2025, arXiv:2503.19786): SigLIP pooled to a fixed number of rows, which see each other both ways in the text. */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { INPUT_REGISTRY, ImageProcessor, MULTIMODAL_REGISTRY } from '../multimodal';
import { panAndScan, panAndScanSettings } from '../multimodal/processors/gemma3';
import {
  Module,
  Parameter,
  RMSNorm,
  add,
  linear,
  mergeMultimodal,
  mul,
  reshape,
  slice,
  type ForwardInputs,
  type InputSpecs,
  type Value,
} from '../nn';
import { GemmaForCausalLM, type GemmaConfig } from './gemma';
import type { SupportsMultiModal } from './hooks';
import { blackImage, dummyImages, runsOf, writeImages, type Piece } from './image-inputs';
import { llavaWeightNames } from './llava';
import { SiglipVisionModel, siglipTower } from './siglip';
import type { VisionConfig } from './vision-encoder';

export interface Gemma3Config {
  model_type: 'gemma3';
  text_config: GemmaConfig;
  vision_config: VisionConfig;
  /** What stands for a picture as the prompt is written, and around its rows as it is read. */
  boi_token_index: number;
  eoi_token_index: number;
  /** Of the rows. */
  image_token_index: number;
  mm_tokens_per_image: number;
}

export interface Gemma3Inputs extends ForwardInputs {
  /** [views, 3, side, side], normalised; the whole picture first. */
  pixelValues?: Value;
  /** Features that take the place of tower and projector: [rows, width]. */
  imageEmbeds?: Value;
}

type Kwargs = Readonly<Record<string, unknown>>;

/** Patches along the side of a square that is pooled to one row. */
function poolOf({ vision_config: vision, mm_tokens_per_image: rows }: Gemma3Config): number {
  const side = siglipTower.patchesPerSide(vision);
  const pool = side / Math.sqrt(rows);
  if (Number.isInteger(pool)) return pool;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected the square of a divisor of the ${side} patches of a side for mm_tokens_per_image but received ${rows}`,
    { details: { field: 'mm_tokens_per_image' } },
  );
}

/** mmProcessorKwargs that change how many views a picture has. */
const sizeKwargs = {
  kwargs: ['doPanAndScan', 'panAndScanMinCropSize', 'panAndScanMaxNumCrops', 'panAndScanMinRatioToActivate'],
};

/** The picture with the most crops: as high as the least crop and long enough for all of them; any one where none are made. */
function largest(ctx: InputContext, kwargs: Kwargs): { height: number; width: number; views: number } {
  const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
  const settings = panAndScanSettings(processor.extra);
  if (!settings) return { height: 1, width: 1, views: 1 };
  const { smallest, most, ratio } = settings;
  const [height, width] = [smallest, smallest * Math.max(most, Math.ceil(ratio))];
  return {
    height,
    width,
    views: 1 + panAndScan(height, width, processor).length,
  };
}

export function getMaxGemma3ImageTokens(ctx: InputContext, kwargs: Kwargs): number {
  return largest(ctx, kwargs).views * ctx.getHfConfig<Gemma3Config>('gemma3').mm_tokens_per_image;
}

export function dummyDataForGemma3(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
  kwargs: Kwargs,
): DummyData {
  const { image_token_index: token, mm_tokens_per_image: rows } = ctx.getHfConfig<Gemma3Config>('gemma3');
  const { height, width, views } = largest(ctx, kwargs);
  return dummyImages(seqLen, mmCounts.image!, token, views * rows, blackImage(width, height));
}

/** A picture as text: each view between its own marks on lines of their own, and with crops a word about which is which. */
function written(views: number, config: Gemma3Config): Piece[] {
  const { boi_token_index: start, eoi_token_index: end, image_token_index: token, mm_tokens_per_image: rows } = config;
  const view: Piece[] = [
    { glue: '\n\n' },
    { ids: [start, ...new Array<number>(rows).fill(token), end] },
    { glue: '\n\n' },
  ];
  if (views === 1) return view;
  const crops = Array.from({ length: views - 1 }, (_, i) => (i === 0 ? view : [{ glue: ' ' }, ...view])).flat();
  return [
    { glue: 'Here is the original image ' },
    ...view,
    { glue: ' and here are some crops to help you see better ' },
    ...crops,
  ];
}

export function inputProcessorForGemma3(ctx: InputContext, inputs: LLMInputs, kwargs: Kwargs): LLMInputs {
  const config = ctx.getHfConfig<Gemma3Config>('gemma3');
  const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
  const { mm_tokens_per_image: rows, image_token_index: token } = config;
  const expanded = writeImages(
    inputs,
    {
      placeholderTokenId: config.boi_token_index,
      width: config.text_config.hidden_size,
      ofPicture: ({ height, width }) => 1 + panAndScan(height, width, processor).length,
      ofMapped: ({ pixelValues, imageEmbeds }) =>
        imageEmbeds ? imageEmbeds.shape.at(-2)! / rows : (pixelValues?.shape.at(-4) ?? 0),
      ofEmbeds: (count) => {
        if (count % rows === 0) return count / rows;
        throw new OcelliError(
          'ERR_IMAGE_EMBEDS',
          `Expected a multiple of ${rows} rows for embeddings but received ${count}`,
        );
      },
    },
    (views) => written(views, config),
  );
  return expanded === inputs ? inputs : { ...expanded, atomicSpans: (ids) => runsOf(ids, token) };
}

class Gemma3Projector extends Module {
  readonly mm_input_projection_weight: Parameter;
  readonly mm_soft_emb_norm: RMSNorm;
  readonly #pooled: number;
  readonly #width: number;

  constructor(config: Gemma3Config) {
    super();
    const { hidden_size: width, layer_norm_eps: eps } = config.vision_config;
    const text = config.text_config.hidden_size;
    this.mm_input_projection_weight = new Parameter([text, width], {
      transposed: [width, text],
    });
    this.mm_soft_emb_norm = new RMSNorm(width, { eps, offset: 1 });
    this.#pooled = poolOf(config) ** 2;
    this.#width = width;
  }

  /** [N, patches, width], squares one after the other -> [N, squares, text width]: the mean of each square, normed. */
  forward(x: Value): Value {
    const [count, width] = [this.#pooled, this.#width];
    const squares = reshape(x, [x.shape[0]!, -1, count * width]);
    const patch = (i: number): Value => slice(squares, -1, i * width, (i + 1) * width);
    let sum = patch(0);
    for (let i = 1; i < count; i++) sum = add(sum, patch(i));
    return linear(this.mm_soft_emb_norm.forward(mul(sum, 1 / count)), this.mm_input_projection_weight);
  }
}

@MULTIMODAL_REGISTRY.registerImageInputMapper()
@MULTIMODAL_REGISTRY.registerMaxImageTokens(getMaxGemma3ImageTokens, sizeKwargs)
@INPUT_REGISTRY.registerDummyData(dummyDataForGemma3, sizeKwargs)
@INPUT_REGISTRY.registerInputProcessor(inputProcessorForGemma3, sizeKwargs)
export class Gemma3ForConditionalGeneration extends Module implements SupportsMultiModal {
  static readonly supportsMultimodal = true;
  static readonly forms = [['pixelValues'], ['imageEmbeds'], []];

  static inputs({ vision_config: vision, text_config: text }: Gemma3Config): InputSpecs {
    return {
      pixelValues: {
        dtype: 'float32',
        shape: ['P', vision.num_channels, vision.image_size, vision.image_size],
      },
      imageEmbeds: { dtype: 'float32', shape: ['L', text.hidden_size] },
    };
  }

  static readonly weightNames = llavaWeightNames;

  readonly vision_tower: SiglipVisionModel;
  readonly multi_modal_projector: Gemma3Projector;
  readonly language_model: GemmaForCausalLM;
  readonly #imageToken: number;

  constructor(config: Gemma3Config) {
    super();
    this.vision_tower = new SiglipVisionModel(config.vision_config, {
      postNorm: true,
      square: poolOf(config),
    });
    this.multi_modal_projector = new Gemma3Projector(config);
    this.language_model = new GemmaForCausalLM(config.text_config);
    this.#imageToken = config.image_token_index;
  }

  forward(inputs: Gemma3Inputs): Value {
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
