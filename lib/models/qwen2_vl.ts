/** Qwen2-VL (Wang et al. 2024, arXiv:2409.12191), pictures: any resolution, 2-D rope in the tower, M-RoPE in the text. */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { Tensor } from '../media/tensor';
import { INPUT_REGISTRY, ImageProcessor, MULTIMODAL_REGISTRY } from '../multimodal';
import { pixelLimits, qwen2VlGrid } from '../multimodal/processors/qwen2-vl';
import {
  LayerNorm,
  Linear,
  Module,
  Parameter,
  RotaryEmbedding,
  VisionAttention,
  add,
  linear,
  mergeMultimodal,
  reshape,
  slice,
  type ForwardInputs,
  type InputSpecs,
  type Value,
  type WeightNameRule,
} from '../nn';
import { largestPicture } from './dynamic-resolution';
import type { MappedItem, PlacedItem, PromptPositions, SupportsMultiModal } from './hooks';
import { blackImage, dummyImages, expandImages, integersOf } from './image-inputs';
import { LlamaForCausalLM, type LlamaConfig } from './llama';
import { VisionMLP } from './vision-encoder';

export interface Qwen2VlVisionConfig {
  model_type: string;
  depth: number;
  embed_dim: number;
  /** Of the merger's output: the text model's width. */
  hidden_size: number;
  hidden_act: string;
  mlp_ratio: number;
  num_heads: number;
  in_channels: number;
  patch_size: number;
  spatial_merge_size: number;
  temporal_patch_size: number;
}

export interface Qwen2VlConfig {
  model_type: 'qwen2_vl';
  text_config: LlamaConfig;
  vision_config: Qwen2VlVisionConfig;
  image_token_index: number;
}

export interface Qwen2VlInputs extends ForwardInputs {
  /** [patches, channels * time * patch * patch], blocks of merged patches one after the other. */
  pixelValues?: Value;
  /** [2, patches]: row and column of each patch. */
  patchPositions?: Value;
  /** [frames + 1]: where each frame's patches begin; attention stays inside. */
  cuSeqlens?: Value;
  /** Features that take the place of all that: [rows, width]. */
  imageEmbeds?: Value;
}

/** time, rows and columns of a picture's patches. */
type Grid = readonly [time: number, rows: number, cols: number];

function gridOf({ imageGridThw }: Readonly<Record<string, Tensor>>, config: Qwen2VlConfig): Grid {
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

function featureRows([time, rows, cols]: Grid, config: Qwen2VlConfig): number {
  return (time * rows * cols) / config.vision_config.spatial_merge_size ** 2;
}

/** mmProcessorKwargs that change how many rows a picture has. */
const sizeKwargs = { kwargs: ['minPixels', 'maxPixels', 'size', 'doResize'] };

function largest(ctx: InputContext, kwargs: Readonly<Record<string, unknown>>): ReturnType<typeof largestPicture> {
  const { patch_size: patch, spatial_merge_size: merge } = ctx.getHfConfig<Qwen2VlConfig>('qwen2_vl').vision_config;
  return largestPicture(patch * merge, ...pixelLimits(ImageProcessor.of(ctx.modelConfig).config(kwargs)));
}

export function getMaxQwen2VlImageTokens(ctx: InputContext, kwargs: Readonly<Record<string, unknown>>): number {
  const { rows, cols } = largest(ctx, kwargs);
  return rows * cols;
}

export function dummyDataForQwen2Vl(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
  kwargs: Readonly<Record<string, unknown>>,
): DummyData {
  const token = ctx.getHfConfig<Qwen2VlConfig>('qwen2_vl').image_token_index;
  const { height, width, rows, cols } = largest(ctx, kwargs);
  return dummyImages(seqLen, mmCounts.image!, token, rows * cols, blackImage(width, height));
}

export function inputProcessorForQwen2Vl(
  ctx: InputContext,
  inputs: LLMInputs,
  kwargs: Readonly<Record<string, unknown>>,
): LLMInputs {
  const config = ctx.getHfConfig<Qwen2VlConfig>('qwen2_vl');
  const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
  return expandImages(inputs, {
    placeholderTokenId: config.image_token_index,
    width: config.text_config.hidden_size,
    ofPicture: ({ height, width }) => featureRows([1, ...qwen2VlGrid(height, width, processor)], config),
    ofMapped: (tensors) => featureRows(gridOf(tensors, config), config),
  });
}

/** A convolution over whole patches of a picture shown twice: a product, since the processor gives the patches as rows. */
class Qwen2VlProjection extends Module {
  readonly weight: Parameter;

  constructor(config: Qwen2VlVisionConfig) {
    super();
    const { embed_dim: width, in_channels: channels, temporal_patch_size: time, patch_size: patch } = config;
    this.weight = new Parameter([width, channels, time, patch, patch]);
  }

  forward(patches: Value): Value {
    return linear(patches, this.weight);
  }
}

class Qwen2VlPatchEmbed extends Module {
  readonly proj: Qwen2VlProjection;

  constructor(config: Qwen2VlVisionConfig) {
    super();
    this.proj = new Qwen2VlProjection(config);
  }

  forward(patches: Value): Value {
    return this.proj.forward(patches);
  }
}

/** Rows and columns of patches turn a half of each head; attention sees one frame. */
class Qwen2VlVisionAttention extends Module {
  readonly qkv: Linear;
  readonly proj: Linear;
  readonly rotary_emb: RotaryEmbedding;
  readonly attn: VisionAttention;
  readonly #heads: number;
  readonly #headDim: number;

  constructor({ embed_dim: width, num_heads: heads }: Qwen2VlVisionConfig) {
    super();
    this.#heads = heads;
    this.#headDim = width / heads;
    this.qkv = new Linear(width, 3 * width);
    this.proj = new Linear(width, width);
    this.rotary_emb = new RotaryEmbedding(this.#headDim, { theta: 10000, axes: 2 });
    this.attn = new VisionAttention(this.#headDim);
  }

  forward(x: Value, positions: Value, cuSeqlens: Value): Value {
    const heads = this.#heads;
    const rows = reshape(this.qkv.forward(x), [x.shape[0]!, 3 * heads, this.#headDim]);
    const [q, k, v] = [0, 1, 2].map((i) => slice(rows, 1, i * heads, (i + 1) * heads)) as [Value, Value, Value];
    const turned = [q, k].map((part) => this.rotary_emb.forward(positions, part)) as [Value, Value];
    return this.proj.forward(this.attn.forward(...turned, v, cuSeqlens));
  }
}

/** Of the tower's norms; no configuration names it. */
const norm = { eps: 1e-6 };

class Qwen2VlVisionBlock extends Module {
  readonly norm1: LayerNorm;
  readonly norm2: LayerNorm;
  readonly attn: Qwen2VlVisionAttention;
  readonly mlp: VisionMLP;

  constructor(config: Qwen2VlVisionConfig) {
    super();
    const width = config.embed_dim;
    this.norm1 = new LayerNorm(width, norm);
    this.norm2 = new LayerNorm(width, norm);
    this.attn = new Qwen2VlVisionAttention(config);
    this.mlp = new VisionMLP(width, Math.trunc(width * config.mlp_ratio), config.hidden_act);
  }

  forward(x: Value, positions: Value, cuSeqlens: Value): Value {
    const attended = add(x, this.attn.forward(this.norm1.forward(x), positions, cuSeqlens));
    return add(attended, this.mlp.forward(this.norm2.forward(attended)));
  }
}

/** The patches of a block are neighbours: joined they are one row of the text model. */
class Qwen2VlPatchMerger extends Module {
  readonly ln_q: LayerNorm;
  /** Numbered as in the checkpoint, where the activation between them is the second. */
  readonly mlp: readonly [Linear, undefined, Linear];
  readonly #merged: number;

  constructor(config: Qwen2VlVisionConfig) {
    super();
    this.#merged = config.embed_dim * config.spatial_merge_size ** 2;
    this.ln_q = new LayerNorm(config.embed_dim, norm);
    this.mlp = [new Linear(this.#merged, this.#merged), undefined, new Linear(this.#merged, config.hidden_size)];
  }

  /** [patches, width] -> [patches / merge^2, hidden]. */
  forward(x: Value): Value {
    const [first, , second] = this.mlp;
    return second.forward(first.forward(reshape(this.ln_q.forward(x), [-1, this.#merged]), { act: 'gelu' }));
  }
}

class Qwen2VlVisionTransformer extends Module {
  readonly patch_embed: Qwen2VlPatchEmbed;
  readonly blocks: readonly Qwen2VlVisionBlock[];
  readonly merger: Qwen2VlPatchMerger;

  constructor(config: Qwen2VlVisionConfig) {
    super();
    this.patch_embed = new Qwen2VlPatchEmbed(config);
    this.blocks = Array.from({ length: config.depth }, () => new Qwen2VlVisionBlock(config));
    this.merger = new Qwen2VlPatchMerger(config);
  }

  forward(patches: Value, positions: Value, cuSeqlens: Value): Value {
    let x = this.patch_embed.forward(patches);
    for (const block of this.blocks) x = block.forward(x, positions, cuSeqlens);
    return this.merger.forward(x);
  }
}

/** Row and column of each patch, block by block as the processor gives them: [2, patches]. */
function patchPositions([time, rows, cols]: Grid, merge: number): Int32Array {
  const patches = time * rows * cols;
  const positions = new Int32Array(2 * patches);
  for (let i = 0; i < patches; i++) {
    const inside = i % merge ** 2;
    const block = Math.floor((i % (rows * cols)) / merge ** 2);
    const blocks = cols / merge;
    positions[i] = Math.floor(block / blocks) * merge + Math.floor(inside / merge);
    positions[patches + i] = (block % blocks) * merge + (inside % merge);
  }
  return positions;
}

@MULTIMODAL_REGISTRY.registerImageInputMapper()
@MULTIMODAL_REGISTRY.registerMaxImageTokens(getMaxQwen2VlImageTokens, sizeKwargs)
@INPUT_REGISTRY.registerDummyData(dummyDataForQwen2Vl, sizeKwargs)
@INPUT_REGISTRY.registerInputProcessor(inputProcessorForQwen2Vl, sizeKwargs)
export class Qwen2VLForConditionalGeneration extends LlamaForCausalLM implements SupportsMultiModal {
  static readonly supportsMultimodal = true;
  static readonly forms = [['pixelValues', 'patchPositions', 'cuSeqlens'], ['imageEmbeds'], []];
  /** Time, height, width. */
  static readonly positionAxes = 3;

  static inputs({ text_config: text, vision_config: vision }: Qwen2VlConfig): InputSpecs {
    const { in_channels: channels, temporal_patch_size: time, patch_size: patch } = vision;
    return {
      pixelValues: { dtype: 'float32', shape: ['P', channels * time * patch * patch] },
      patchPositions: { dtype: 'int32', shape: [2, 'P'], kind: 'positions' },
      cuSeqlens: { dtype: 'int32', shape: ['C'], kind: 'cuSeqlens' },
      imageEmbeds: { dtype: 'float32', shape: ['L', text.hidden_size] },
    };
  }

  static prepare(ctx: InputContext, { tensors }: MappedItem): Record<string, Tensor> {
    if (tensors.pixelValues === undefined) return {};
    const config = ctx.getHfConfig<Qwen2VlConfig>('qwen2_vl');
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
  ): PromptPositions {
    const config = ctx.getHfConfig<Qwen2VlConfig>('qwen2_vl');
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

  readonly visual: Qwen2VlVisionTransformer;
  readonly #imageToken: number;

  constructor(config: Qwen2VlConfig) {
    super(config.text_config);
    this.visual = new Qwen2VlVisionTransformer(config.vision_config);
    this.#imageToken = config.image_token_index;
  }

  override forward(inputs: Qwen2VlInputs): Value {
    const { inputIds, pixelValues, patchPositions: positions, cuSeqlens, imageEmbeds } = inputs;
    const features =
      pixelValues === undefined || positions === undefined || cuSeqlens === undefined
        ? imageEmbeds
        : this.visual.forward(pixelValues, positions, cuSeqlens);
    const embeds = this.model.embed_tokens.forward(inputIds);
    return super.forward(inputs, mergeMultimodal(embeds, inputIds, features, this.#imageToken));
  }
}
