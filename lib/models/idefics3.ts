/** Idefics3 (Laurençon et al. 2024) and SmolVLM (Marafioti et al. 2025): SigLIP over tiles, squares of patches joined to one row. */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { INPUT_REGISTRY, ImageProcessor, MULTIMODAL_REGISTRY } from '../multimodal';
import { idefics3Grid, type Idefics3Grid } from '../multimodal/processors/idefics3';
import {
  Linear,
  Module,
  mergeMultimodal,
  reshape,
  type ForwardInputs,
  type InputSpecs,
  type Value,
  type WeightNameRule,
} from '../nn';
import { blackImage, dummyImages, integersOf, writeImages, type Piece } from './image-inputs';
import type { SupportsMultiModal } from './hooks';
import { LlamaModel, type LlamaConfig } from './llama';
import { SiglipVisionTransformer, siglipTower } from './siglip';
import type { VisionConfig } from './vision-encoder';

export interface Idefics3Config {
  model_type: 'idefics3' | 'smolvlm';
  text_config: LlamaConfig;
  vision_config: VisionConfig;
  image_token_index: number;
  scale_factor: number;
  tie_word_embeddings: boolean;
}

export interface Idefics3Inputs extends ForwardInputs {
  /** [tiles, 3, tile, tile], normalised; the whole picture last. */
  pixelValues?: Value;
  /** Features that take the place of tower and connector: [rows, width]. */
  imageEmbeds?: Value;
}

type Kwargs = Readonly<Record<string, unknown>>;

/** Rows of a tile. */
function tileRows({ vision_config: vision, scale_factor: scale }: Idefics3Config): number {
  const side = siglipTower.patchesPerSide(vision);
  if (side % scale === 0) return (side / scale) ** 2;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected a divisor of the ${side} patches of a tile's side for scale_factor but received ${scale}`,
    { details: { field: 'scale_factor' } },
  );
}

/** mmProcessorKwargs that change how many tiles a picture has. */
const sizeKwargs = { kwargs: ['size', 'doResize', 'doImageSplitting', 'maxImageSize'] };

/** The picture with the most tiles: a square, but where evening a side up makes the one beside it larger. */
function largest(ctx: InputContext, kwargs: Kwargs): { side: [number, number]; tiles: number } {
  const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
  const edge = processor.size.longest_edge ?? 1;
  const sides: [number, number][] = [
    [edge, edge],
    [edge, Math.max(1, edge - 1)],
  ];
  const found = sides.map(([height, width]) => {
    const { rows, cols } = idefics3Grid(height, width, processor);
    return { side: [height, width] as [number, number], tiles: rows * cols + 1 };
  });
  return found.reduce((a, b) => (b.tiles > a.tiles ? b : a));
}

export function getMaxIdefics3ImageTokens(ctx: InputContext, kwargs: Kwargs): number {
  return largest(ctx, kwargs).tiles * tileRows(ctx.getHfConfig<Idefics3Config>());
}

export function dummyDataForIdefics3(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
  kwargs: Kwargs,
): DummyData {
  const config = ctx.getHfConfig<Idefics3Config>();
  const { side, tiles } = largest(ctx, kwargs);
  const rows = tiles * tileRows(config);
  return dummyImages(seqLen, mmCounts.image!, config.image_token_index, rows, blackImage(side[1], side[0]));
}

/** A picture as text: every tile says where it stands, and the whole picture comes last. */
function written({ rows, cols }: Idefics3Grid, image: Piece): Piece[] {
  const fake = '<fake_token_around_image>';
  const pieces: Piece[] = [];
  let text = '';
  const put = (name: string): void => {
    pieces.push({ text: `${text}${fake}${name}`, trusted: true }, image);
    text = '';
  };
  for (let row = 1; row <= rows; row++) {
    for (let col = 1; col <= cols; col++) put(`<row_${row}_col_${col}>`);
    text = '\n';
  }
  if (rows > 0) text += '\n';
  put('<global-img>');
  return [...pieces, { text: fake, trusted: true }];
}

export function inputProcessorForIdefics3(ctx: InputContext, inputs: LLMInputs, kwargs: Kwargs): LLMInputs {
  const config = ctx.getHfConfig<Idefics3Config>();
  const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
  const token = config.image_token_index;
  const count = tileRows(config);
  const image: Piece = { ids: new Array<number>(count).fill(token) };
  return writeImages(
    inputs,
    {
      placeholderTokenId: token,
      width: config.text_config.hidden_size,
      ofPicture: ({ height, width }) => idefics3Grid(height, width, processor),
      ofMapped: ({ rows, cols }) => {
        const [r, c] = [rows, cols].map((t) => (t ? integersOf(t)[0] : undefined));
        if (r !== undefined && c !== undefined) return { rows: r, cols: c };
        throw new OcelliError('ERR_IMAGE_SIZE', 'Expected rows and cols of its tiles beside a mapped picture');
      },
      ofEmbeds: (rows) => {
        if (rows === count) return { rows: 0, cols: 0 };
        throw new OcelliError(
          'ERR_IMAGE_EMBEDS',
          `Expected ${count} rows for embeddings of a picture without tiles but received ${rows}`,
          { hint: 'Give those of tiles as { imageEmbeds, rows, cols }, the whole picture last.' },
        );
      },
    },
    (grid) => written(grid, image),
  );
}

class ModalityProjection extends Module {
  readonly proj: Linear;

  constructor(inFeatures: number, outFeatures: number) {
    super();
    this.proj = new Linear(inFeatures, outFeatures, { bias: false });
  }

  forward(x: Value): Value {
    return this.proj.forward(x);
  }
}

class Idefics3Connector extends Module {
  readonly modality_projection: ModalityProjection;
  readonly #joined: number;

  constructor({ vision_config: vision, text_config: text, scale_factor: scale }: Idefics3Config) {
    super();
    this.#joined = vision.hidden_size * scale ** 2;
    this.modality_projection = new ModalityProjection(this.#joined, text.hidden_size);
  }

  /** [tiles, patches, width], squares one after the other -> [tiles, squares, text width]. */
  forward(x: Value): Value {
    return this.modality_projection.forward(reshape(x, [x.shape[0]!, -1, this.#joined]));
  }
}

class Idefics3Model extends Module {
  readonly vision_model: SiglipVisionTransformer;
  readonly connector: Idefics3Connector;
  readonly text_model: LlamaModel;
  readonly #imageToken: number;

  constructor(config: Idefics3Config) {
    super();
    const { vision_config: vision, scale_factor: square } = config;
    const places = bucketPlaces(siglipTower.patchesPerSide(vision));
    this.vision_model = new SiglipVisionTransformer(vision, { postNorm: true, square, places });
    this.connector = new Idefics3Connector(config);
    this.text_model = new LlamaModel(config.text_config);
    this.#imageToken = config.image_token_index;
  }

  forward(inputs: Idefics3Inputs): Value {
    const { inputIds, pixelValues, imageEmbeds } = inputs;
    const features = pixelValues ? this.connector.forward(this.vision_model.features(pixelValues)) : imageEmbeds;
    const embeds = this.text_model.embed_tokens.forward(inputIds);
    return this.text_model.forward(inputs, mergeMultimodal(embeds, inputIds, features, this.#imageToken));
  }
}

/**
 * Row of the position table for each patch of a tile. The family looks a patch's place, i / side, up among float32 borders k / side, which
 * misses by one at some sides; the borders are made eight at a time from a rounded first one, as the reference makes them.
 */
export function bucketPlaces(side: number): number[] {
  const [f32, step] = [Math.fround, 1 / side];
  const count = Math.ceil((1 - step) / step);
  const eights = count - (count % 16);
  const borders = Array.from({ length: count }, (_, k) => {
    const first = k < eights ? k - (k % 8) : k;
    return f32(f32(step + step * first) + (k - first) * step);
  });
  const places = Array.from({ length: side }, (_, i) => {
    const place = Math.min(f32(i * f32(step)), f32(1 - 1e-6));
    return borders.filter((b) => b <= place).length;
  });
  return places.flatMap((row) => places.map((col) => row * side + col));
}

@MULTIMODAL_REGISTRY.registerImageInputMapper()
@MULTIMODAL_REGISTRY.registerMaxImageTokens(getMaxIdefics3ImageTokens, sizeKwargs)
@INPUT_REGISTRY.registerDummyData(dummyDataForIdefics3, sizeKwargs)
@INPUT_REGISTRY.registerInputProcessor(inputProcessorForIdefics3, sizeKwargs)
export class Idefics3ForConditionalGeneration extends Module implements SupportsMultiModal {
  static readonly supportsMultimodal = true;
  static readonly forms = [['pixelValues'], ['imageEmbeds'], []];

  static inputs(config: Idefics3Config): InputSpecs {
    const { num_channels: channels, image_size: side } = config.vision_config;
    return {
      pixelValues: { dtype: 'float32', shape: ['P', channels, side, side] },
      imageEmbeds: { dtype: 'float32', shape: ['L', config.text_config.hidden_size] },
    };
  }

  static readonly weightNames: readonly WeightNameRule[] = [['lm_head.', 'model.lm_head.']];

  readonly model: Idefics3Model;
  readonly lm_head: Linear;

  constructor(config: Idefics3Config) {
    super();
    tileRows(config);
    this.model = new Idefics3Model(config);
    const weight = config.tie_word_embeddings ? this.model.text_model.embed_tokens.weight : undefined;
    const { hidden_size: width, vocab_size: vocab } = config.text_config;
    this.lm_head = new Linear(width, vocab, { bias: false, weight });
  }

  forward(inputs: Idefics3Inputs): Value {
    return this.model.forward(inputs);
  }

  computeLogits(hidden: Value): Value {
    return this.lm_head.forward(hidden);
  }
}
