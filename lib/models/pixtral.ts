/** Pixtral (Agrawal et al. 2024, arXiv:2410.07073): pictures at their own size, a line of placeholders for each row of patches. */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import type { Tensor } from '../media/tensor';
import { INPUT_REGISTRY, ImageProcessor, MULTIMODAL_REGISTRY } from '../multimodal';
import { pixtralEdge, pixtralSize } from '../multimodal/processors/pixtral';
import { Module, mergeMultimodal, type ForwardInputs, type InputSpecs, type Value } from '../nn';
import type { MappedItem, SupportsMultiModal } from './hooks';
import { blackImage, dummyImages, integersOf, writeImages, type Piece } from './image-inputs';
import { LlamaForCausalLM } from './llama';
import { LlavaMultiModalProjector, llavaWeightNames, type LlavaLikeConfig } from './llava';
import { PixtralVisionModel, patchRows, type PixtralVisionConfig } from './pixtral-vision';
import { blocksOf } from './vision-encoder';

export interface PixtralConfig extends Omit<LlavaLikeConfig, 'vision_config'> {
  vision_config: PixtralVisionConfig;
  /** Mistral 3: so many patches a side become one row. */
  spatial_merge_size?: number;
}

export interface PixtralInputs extends ForwardInputs {
  /** [patches, channels * patch * patch], squares of merged patches one after the other. */
  patches?: Value;
  /** [2, patches]: row and column of each. */
  patchPositions?: Value;
  /** Features that take the place of tower and projector: [rows, width]. */
  imageEmbeds?: Value;
}

/** Features of the tower -> rows of the text model. */
interface Projector extends Module {
  forward(features: Value): Value;
}

type Kwargs = Readonly<Record<string, unknown>>;

/** Rows and columns of features. */
type Lines = readonly [rows: number, cols: number];

/** Pixels of a row's side in the picture. */
const stepOf = ({ vision_config: vision, spatial_merge_size: merge = 1 }: PixtralConfig): number =>
  vision.patch_size * merge;

function linesOf([height, width]: readonly [number, number], config: PixtralConfig): Lines {
  const step = stepOf(config);
  if (height > 0 && width > 0 && height % step === 0 && width % step === 0) return [height / step, width / step];
  throw new OcelliError(
    'ERR_IMAGE_SIZE',
    `Expected a picture in whole patches of ${step} pixels behind the processor but received ${width}x${height}`,
    {
      hint: 'patch_size of the processor is the one of vision_config, times spatial_merge_size.',
      details: { field: 'vision_config.patch_size' },
    },
  );
}

/** The lines of a mapped picture. */
function mappedLines({ imageSizes }: Readonly<Record<string, Tensor>>, config: PixtralConfig): Lines {
  const [height, width] = imageSizes === undefined ? [] : integersOf(imageSizes);
  if (height !== undefined && width !== undefined) return linesOf([height, width], config);
  throw new OcelliError(
    'ERR_IMAGE_SIZE',
    'Expected imageSizes [1, 2] (height, width in pixels behind the processor) beside pixelValues or imageEmbeds',
  );
}

/** mmProcessorKwargs that change how many rows a picture has. */
const sizeKwargs = { kwargs: ['size', 'patchSize', 'doResize'] };

/** The largest picture is a square as long as pictures may be. */
function largest(ctx: InputContext, kwargs: Kwargs): { edge: number; tokens: number } {
  const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
  const edge = pixtralEdge(processor);
  const [rows, cols] = linesOf(pixtralSize(edge, edge, processor), ctx.getHfConfig<PixtralConfig>());
  return { edge, tokens: rows * cols };
}

function getMaxPixtralImageTokens(ctx: InputContext, kwargs: Kwargs): number {
  return largest(ctx, kwargs).tokens;
}

function dummyDataForPixtral(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
  kwargs: Kwargs,
): DummyData {
  const { edge, tokens } = largest(ctx, kwargs);
  const token = ctx.getHfConfig<PixtralConfig>().image_token_index;
  return dummyImages(seqLen, mmCounts.image!, token, tokens, blackImage(edge, edge));
}

function inputProcessorForPixtral(ctx: InputContext, inputs: LLMInputs, kwargs: Kwargs): LLMInputs {
  const config = ctx.getHfConfig<PixtralConfig>();
  const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
  const token = config.image_token_index;
  const { image_break_token: lineBreak = '[IMG_BREAK]', image_end_token: end = '[IMG_END]' } =
    ctx.modelConfig.processorConfig ?? {};
  return writeImages<Lines>(
    inputs,
    {
      placeholderTokenId: token,
      width: config.text_config.hidden_size,
      ofPicture: ({ height, width }) => linesOf(pixtralSize(height, width, processor), config),
      ofMapped: (tensors) => mappedLines(tensors, config),
      ofEmbeds: (rows) => {
        throw new OcelliError(
          'ERR_IMAGE_EMBEDS',
          `Expected the size of a picture beside its embeddings but received ${rows} rows alone`,
          { hint: 'Give them as { imageEmbeds, imageSizes }: the prompt has a break behind each line of patches.' },
        );
      },
    },
    ([rows, cols]) => {
      const line: Piece = { ids: new Array<number>(cols).fill(token) };
      return Array.from({ length: rows }, (_, i): Piece[] => [
        line,
        { text: String(i + 1 < rows ? lineBreak : end), trusted: true },
      ]).flat();
    },
  );
}

@MULTIMODAL_REGISTRY.registerImageInputMapper()
@MULTIMODAL_REGISTRY.registerMaxImageTokens(getMaxPixtralImageTokens, sizeKwargs)
@INPUT_REGISTRY.registerDummyData(dummyDataForPixtral, sizeKwargs)
@INPUT_REGISTRY.registerInputProcessor(inputProcessorForPixtral, sizeKwargs)
export class PixtralForConditionalGeneration extends Module implements SupportsMultiModal {
  static readonly supportsMultimodal = true;
  static readonly forms = [['patches', 'patchPositions'], ['imageEmbeds'], []];

  static inputs({ vision_config: vision, text_config: text }: PixtralConfig): InputSpecs {
    return {
      patches: { dtype: 'float32', shape: ['P', vision.num_channels * vision.patch_size ** 2] },
      patchPositions: { dtype: 'int32', shape: [2, 'P'], kind: 'positions' },
      imageEmbeds: { dtype: 'float32', shape: ['L', text.hidden_size] },
    };
  }

  static prepare(ctx: InputContext, { tensors }: MappedItem): Record<string, Tensor> {
    const { pixelValues } = tensors;
    if (pixelValues === undefined) return {};
    const config = ctx.getHfConfig<PixtralConfig>();
    const [channels, height, width] = pixelValues.shape.slice(-3) as [number, number, number];
    linesOf([height, width], config);
    const square = config.spatial_merge_size ?? 1;
    return patchRows(
      pixelValues.data as Float32Array,
      [channels, height, width],
      config.vision_config.patch_size,
      square,
    );
  }

  static readonly weightNames = llavaWeightNames;

  readonly vision_tower: PixtralVisionModel;
  readonly multi_modal_projector: Projector;
  readonly language_model: LlamaForCausalLM;
  readonly #imageToken: number;

  constructor(config: PixtralConfig, projector?: Projector) {
    super();
    const { vision_config: vision, vision_feature_layer: layer } = config;
    this.vision_tower = new PixtralVisionModel(vision, blocksOf(Number(layer), vision.num_hidden_layers));
    this.multi_modal_projector = projector ?? new LlavaMultiModalProjector(config);
    this.language_model = new LlamaForCausalLM(config.text_config);
    this.#imageToken = config.image_token_index;
  }

  forward(inputs: PixtralInputs): Value {
    const { inputIds, patches, patchPositions, imageEmbeds } = inputs;
    const features =
      patches === undefined || patchPositions === undefined
        ? imageEmbeds
        : this.multi_modal_projector.forward(this.vision_tower.forward(patches, patchPositions));
    const embeds = this.language_model.model.embed_tokens.forward(inputIds);
    return this.language_model.forward(inputs, mergeMultimodal(embeds, inputIds, features, this.#imageToken));
  }

  computeLogits(hidden: Value): Value {
    return this.language_model.computeLogits(hidden);
  }
}
