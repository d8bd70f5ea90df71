/** What Qwen2-VL, Qwen2.5-VL and Qwen3-VL share: pictures at any resolution, their hooks, and M-RoPE in the text. */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { Tensor } from '../media/tensor';
import { INPUT_REGISTRY, ImageProcessor, MULTIMODAL_REGISTRY } from '../multimodal';
import { pixelLimits, qwen2VlGrid } from '../multimodal/processors/qwen2-vl';
import {
  addMultimodal,
  mergeMultimodal,
  split,
  type ForwardInputs,
  type InputSpecs,
  type Module,
  type Value,
  type WeightNameRule,
} from '../nn';
import { largestPicture } from './dynamic-resolution';
import type { MappedItem, PlacedItem, PromptPositions, SupportsMultiModal } from './hooks';
import { blackImage, dummyImages, expandImages, integersOf } from './image-inputs';
import { LlamaForCausalLM, type LlamaConfig } from './llama';
import { patchPositions, type Grid, type QwenVisionConfig, type QwenVisionInputs } from './qwen-vision';

export interface QwenVlConfig<V extends QwenVisionConfig = QwenVisionConfig> {
  model_type: string;
  text_config: LlamaConfig;
  vision_config: V & {
    /** Qwen3-VL: blocks of the tower whose features later text layers take. */
    deepstack_visual_indexes?: readonly number[];
  };
  image_token_index: number;
}

export interface QwenVlInputs extends ForwardInputs, Partial<QwenVisionInputs> {
  /** Features that take the place of the tower's: [rows, width]; side by side where several layers take some. */
  imageEmbeds?: Value;
}

export interface QwenVisionTransformer extends Module {
  /** -> [rows, width] for the placeholders, then what is added to them behind the first text layers. */
  forward(inputs: QwenVisionInputs): Value[];
}

/** How many layers of the text model take features, the first one included. */
function featureLayers({ vision_config: vision }: QwenVlConfig): number {
  return 1 + (vision.deepstack_visual_indexes?.length ?? 0);
}

const embedsWidth = (config: QwenVlConfig): number => featureLayers(config) * config.text_config.hidden_size;

export function gridOf({ imageGridThw }: Readonly<Record<string, Tensor>>, config: QwenVlConfig): Grid {
  const merge = config.vision_config.spatial_merge_size;
  const grid = imageGridThw === undefined ? [] : integersOf(imageGridThw);
  const [time, rows, cols] = grid;
  if (grid.length === 3 && time! > 0 && rows! > 0 && cols! > 0 && rows! % merge === 0 && cols! % merge === 0)
    return [time!, rows!, cols!];
  throw new OcelliError(
    'ERR_IMAGE_SIZE',
    `Expected imageGridThw [1, 3] (time, and rows and columns of patches in multiples of ${merge}) beside pixelValues or imageEmbeds but received ${imageGridThw === undefined ? 'none' : `[${grid.join(', ')}]`}`,
    { hint: 'Positions of a picture depend on its shape: give embeddings as { imageEmbeds, imageGridThw }.' },
  );
}

function featureRows([time, rows, cols]: Grid, config: QwenVlConfig): number {
  return (time * rows * cols) / config.vision_config.spatial_merge_size ** 2;
}

/** mmProcessorKwargs that change how many rows a picture has. */
const sizeKwargs = { kwargs: ['minPixels', 'maxPixels', 'size', 'doResize'] };

function largest(ctx: InputContext, kwargs: Readonly<Record<string, unknown>>): ReturnType<typeof largestPicture> {
  const { patch_size: patch, spatial_merge_size: merge } = ctx.getHfConfig<QwenVlConfig>().vision_config;
  return largestPicture(patch * merge, ...pixelLimits(ImageProcessor.of(ctx.modelConfig).config(kwargs)));
}

function getMaxQwenVlImageTokens(ctx: InputContext, kwargs: Readonly<Record<string, unknown>>): number {
  const { rows, cols } = largest(ctx, kwargs);
  return rows * cols;
}

function dummyDataForQwenVl(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
  kwargs: Readonly<Record<string, unknown>>,
): DummyData {
  const token = ctx.getHfConfig<QwenVlConfig>().image_token_index;
  const { height, width, rows, cols } = largest(ctx, kwargs);
  return dummyImages(seqLen, mmCounts.image!, token, rows * cols, blackImage(width, height));
}

function inputProcessorForQwenVl(
  ctx: InputContext,
  inputs: LLMInputs,
  kwargs: Readonly<Record<string, unknown>>,
): LLMInputs {
  const config = ctx.getHfConfig<QwenVlConfig>();
  const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
  return expandImages(inputs, {
    placeholderTokenId: config.image_token_index,
    width: embedsWidth(config),
    ofPicture: ({ height, width }) => featureRows([1, ...qwen2VlGrid(height, width, processor)], config),
    ofMapped: (tensors) => featureRows(gridOf(tensors, config), config),
  });
}
@MULTIMODAL_REGISTRY.registerImageInputMapper()
@MULTIMODAL_REGISTRY.registerMaxImageTokens(getMaxQwenVlImageTokens, sizeKwargs)
@INPUT_REGISTRY.registerDummyData(dummyDataForQwenVl, sizeKwargs)
@INPUT_REGISTRY.registerInputProcessor(inputProcessorForQwenVl, sizeKwargs)
export class QwenVLForConditionalGeneration extends LlamaForCausalLM implements SupportsMultiModal {
  static readonly supportsMultimodal = true;
  static readonly forms = [['pixelValues', 'patchPositions', 'cuSeqlens'], ['imageEmbeds'], []];
  /** Time, height, width. */
  static readonly positionAxes = 3;

  static inputs(config: QwenVlConfig): InputSpecs {
    const { in_channels: channels, temporal_patch_size: time, patch_size: patch } = config.vision_config;
    return {
      pixelValues: { dtype: 'float32', shape: ['P', channels * time * patch * patch] },
      patchPositions: { dtype: 'int32', shape: [2, 'P'], kind: 'positions' },
      cuSeqlens: { dtype: 'int32', shape: ['C'], kind: 'cuSeqlens' },
      imageEmbeds: { dtype: 'float32', shape: ['L', embedsWidth(config)] },
    };
  }

  static prepare(ctx: InputContext, { tensors }: MappedItem): Record<string, Tensor> {
    if (tensors.pixelValues === undefined) return {};
    const config = ctx.getHfConfig<QwenVlConfig>();
    const grid = gridOf(tensors, config);
    const [time, rows, cols] = grid;
    const positions = patchPositions(grid, config.vision_config.spatial_merge_size);
    const borders = Int32Array.from({ length: time + 1 }, (_, frame) => frame * rows * cols);
    return {
      patchPositions: new Tensor('int32', [2, positions.length / 2], positions),
      cuSeqlens: new Tensor('int32', [borders.length], borders),
    };
  }

  /**
   * Text advances all three axes; a picture at p has time p, height p + row, width p + column of its merged patches, and the text
   * after it goes on behind the largest of these.
   */
  static positions(
    ctx: InputContext,
    promptTokenIds: readonly number[],
    items: readonly PlacedItem[],
  ): PromptPositions | undefined {
    if (items.length === 0) return undefined;
    const config = ctx.getHfConfig<QwenVlConfig>();
    const merge = config.vision_config.spatial_merge_size;
    const length = promptTokenIds.length;
    const positions = new Int32Array(3 * length);
    const put = (at: number, ...axes: [number, number, number]): void =>
      axes.forEach((position, axis) => (positions[axis * length + at] = position));
    let next = 0;
    let at = 0;
    const text = (end: number): void => {
      for (; at < end; at++, next++) put(at, next, next, next);
    };
    for (const { tensors, ranges } of [...items].sort((a, b) => a.ranges[0]![0] - b.ranges[0]![0])) {
      const grid = gridOf(tensors, config);
      const [rows, cols] = [grid[1] / merge, grid[2] / merge];
      const [start, count] = ranges[0]!;
      if (ranges.length !== 1 || count !== featureRows(grid, config)) {
        throw new OcelliError(
          'ERR_PLACEHOLDER_COUNT',
          `Expected ${featureRows(grid, config)} placeholders in a row for a picture of ${grid[0]}x${rows}x${cols} but received ${ranges.map(([, n]) => n).join(' + ')}`,
        );
      }
      text(start);
      for (let i = 0; i < count; i++) {
        const place = i % (rows * cols);
        put(at++, next + Math.floor(i / (rows * cols)), next + Math.floor(place / cols), next + (place % cols));
      }
      next += Math.max(grid[0], rows, cols);
    }
    text(length);
    return { positions, delta: next - length };
  }

  static override readonly weightNames: readonly WeightNameRule[] = [
    ['model.', 'model.language_model.'],
    ['visual.', 'model.visual.'],
  ];

  readonly visual: QwenVisionTransformer;
  readonly #imageToken: number;
  readonly #layers: number;
  readonly #width: number;

  constructor(config: QwenVlConfig, visual: QwenVisionTransformer) {
    super(config.text_config);
    this.visual = visual;
    this.#imageToken = config.image_token_index;
    this.#layers = featureLayers(config);
    this.#width = config.text_config.hidden_size;
  }

  override forward(inputs: QwenVlInputs): Value {
    const [features, ...deeper] = this.#features(inputs);
    const embeds = this.model.embed_tokens.forward(inputs.inputIds);
    const merged = mergeMultimodal(embeds, inputs.inputIds, features, this.#imageToken);
    return this.model.forward(inputs, merged, (hidden, layer) =>
      layer + 1 < this.#layers ? addMultimodal(hidden, deeper[layer]) : hidden,
    );
  }

  #features(inputs: QwenVlInputs): Value[] {
    const { pixelValues, imageEmbeds } = inputs;
    if (pixelValues !== undefined) return this.visual.forward(inputs as QwenVisionInputs);
    return imageEmbeds === undefined ? [] : split(imageEmbeds, new Array<number>(this.#layers).fill(this.#width));
  }
}
