/** Qwen2.5-VL (Bai et al. 2025, arXiv:2502.13923): Qwen2-VL whose tower looks through windows in most of its blocks. */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import { Tensor } from '../media/tensor';
import {
  Linear,
  Module,
  RMSNorm,
  activationOf,
  add,
  gatherRows,
  mergedLinear,
  reshape,
  type Activation,
  type InputSpecs,
  type Value,
} from '../nn';
import type { MappedItem } from './hooks';
import {
  QwenPatchEmbed,
  QwenVisionAttention,
  qwenNorm,
  type Grid,
  type QwenVisionConfig,
  type QwenVisionInputs,
} from './qwen-vision';
import { gridOf, type QwenVlConfig } from './qwen-inputs';
import { QwenVLForConditionalGeneration } from './qwen-vl';
import { pictureAndVideoForms } from './video-inputs';

export interface Qwen25VlVisionConfig extends QwenVisionConfig {
  hidden_size: number;
  intermediate_size: number;
  /** Of the merger's output: the text model's width. */
  out_hidden_size: number;
  /** Pixels of a window's side. */
  window_size: number;
  /** Blocks that see the whole frame. */
  fullatt_block_indexes: readonly number[];
  /** Steps of the axis of time that a second of a video is long. */
  tokens_per_second: number;
}

interface Qwen25VisionInputs extends QwenVisionInputs {
  /** [patches]: the processor's patches, sorted by window. Positions are in this order too. */
  windowOrder: Value;
  /** [windows + 1]: where each window's patches begin. */
  windowSeqlens: Value;
  /** [rows]: where the window order has each merged block. */
  blockOrder: Value;
}

class Qwen25VisionMLP extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;
  readonly #act: Activation;

  constructor({ hidden_size: width, intermediate_size: inner, hidden_act: act }: Qwen25VlVisionConfig) {
    super();
    this.gate_proj = new Linear(width, inner);
    this.up_proj = new Linear(width, inner);
    this.down_proj = new Linear(inner, width);
    this.#act = activationOf(act, 'vision_config.hidden_act');
  }

  forward(x: Value): Value {
    return this.down_proj.forward(mergedLinear(x, [this.gate_proj, this.up_proj], { gate: this.#act }));
  }
}

class Qwen25VisionBlock extends Module {
  readonly norm1: RMSNorm;
  readonly norm2: RMSNorm;
  readonly attn: QwenVisionAttention;
  readonly mlp: Qwen25VisionMLP;

  constructor(config: Qwen25VlVisionConfig) {
    super();
    this.norm1 = new RMSNorm(config.hidden_size, qwenNorm);
    this.norm2 = new RMSNorm(config.hidden_size, qwenNorm);
    this.attn = new QwenVisionAttention(config, config.hidden_size);
    this.mlp = new Qwen25VisionMLP(config);
  }

  forward(x: Value, positions: Value, cuSeqlens: Value): Value {
    const attended = add(x, this.attn.forward(this.norm1.forward(x), positions, cuSeqlens));
    return add(attended, this.mlp.forward(this.norm2.forward(attended)));
  }
}

/** The patches of a block are neighbours: joined they are one row of the text model. */
class Qwen25PatchMerger extends Module {
  readonly ln_q: RMSNorm;
  /** Numbered as in the checkpoint, where the activation between them is the second. */
  readonly mlp: readonly [Linear, undefined, Linear];
  readonly #merged: number;

  constructor(config: Qwen25VlVisionConfig) {
    super();
    this.#merged = config.hidden_size * config.spatial_merge_size ** 2;
    this.ln_q = new RMSNorm(config.hidden_size, qwenNorm);
    this.mlp = [new Linear(this.#merged, this.#merged), undefined, new Linear(this.#merged, config.out_hidden_size)];
  }

  /** [patches, width] -> [patches / merge^2, hidden]. */
  forward(x: Value): Value {
    const [first, , second] = this.mlp;
    return second.forward(first.forward(reshape(this.ln_q.forward(x), [-1, this.#merged]), { act: 'gelu' }));
  }
}

class Qwen25VisionTransformer extends Module {
  readonly patch_embed: QwenPatchEmbed;
  readonly blocks: readonly Qwen25VisionBlock[];
  readonly merger: Qwen25PatchMerger;
  readonly #whole: ReadonlySet<number>;

  constructor(config: Qwen25VlVisionConfig) {
    super();
    windowSide(config);
    this.#whole = new Set(config.fullatt_block_indexes);
    this.patch_embed = new QwenPatchEmbed(config, config.hidden_size, { bias: false });
    this.blocks = Array.from({ length: config.depth }, () => new Qwen25VisionBlock(config));
    this.merger = new Qwen25PatchMerger(config);
  }

  forward({ pixelValues, patchPositions, cuSeqlens, windowOrder, windowSeqlens, blockOrder }: Qwen25VisionInputs) {
    let x = this.patch_embed.forward(gatherRows(pixelValues, windowOrder));
    for (const [i, block] of this.blocks.entries())
      x = block.forward(x, patchPositions, this.#whole.has(i) ? cuSeqlens : windowSeqlens);
    return [gatherRows(this.merger.forward(x), blockOrder)];
  }
}

const f32 = Math.fround;

/** Merged blocks along a window's side. */
function windowSide({
  window_size: pixels,
  patch_size: patch,
  spatial_merge_size: merge,
}: Qwen25VlVisionConfig): number {
  const side = Math.floor(pixels / merge / patch);
  if (side > 0) return side;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected at least the ${patch * merge} pixels of a merged block for vision_config.window_size but received ${pixels}`,
    { details: { field: 'vision_config.window_size' } },
  );
}

/**
 * Merged blocks sorted by window: windows frame by frame and row by row, inside them row by row; those at the right and lower edge are
 * what is left. With them, where each window begins.
 */
export function windows([time, rows, cols]: Grid, side: number): { order: number[]; starts: number[] } {
  const order: number[] = [];
  const starts = [0];
  for (let frame = 0; frame < time; frame++) {
    for (let top = 0; top < rows; top += side) {
      for (let left = 0; left < cols; left += side) {
        for (let y = top; y < Math.min(top + side, rows); y++)
          for (let x = left; x < Math.min(left + side, cols); x++) order.push((frame * rows + y) * cols + x);
        starts.push(order.length);
      }
    }
  }
  return { order, starts };
}

export class Qwen2_5_VLForConditionalGeneration extends QwenVLForConditionalGeneration {
  static override readonly forms = pictureAndVideoForms(
    'patchPositions',
    'cuSeqlens',
    'windowOrder',
    'windowSeqlens',
    'blockOrder',
  );

  static override inputs(config: QwenVlConfig): InputSpecs {
    return {
      ...super.inputs(config),
      windowOrder: { dtype: 'int32', shape: ['P'], kind: 'rowIndex', of: 'pixelValues' },
      windowSeqlens: { dtype: 'int32', shape: ['W'], kind: 'cuSeqlens' },
      blockOrder: { dtype: 'int32', shape: ['R'], kind: 'rowIndex', of: 'blockOrder' },
    };
  }

  static override prepare(ctx: InputContext, item: MappedItem): Record<string, Tensor> {
    const prepared = super.prepare(ctx, item);
    const { patchPositions: positions } = prepared;
    if (positions === undefined) return prepared;
    const config = ctx.getHfConfig<QwenVlConfig<Qwen25VlVisionConfig>>('qwen2_5_vl');
    const { spatial_merge_size: merge } = config.vision_config;
    const [time, rows, cols] = gridOf(item.tensors, config);
    const { order, starts } = windows([time, rows / merge, cols / merge], windowSide(config.vision_config));
    const blockOrder = new Int32Array(order.length);
    order.forEach((block, at) => (blockOrder[block] = at));
    const patchOrder = order.flatMap((block) => Array.from({ length: merge ** 2 }, (_, i) => block * merge ** 2 + i));
    const patches = patchOrder.length;
    const at = positions.data as Int32Array;
    const int32 = (values: ArrayLike<number>): Tensor => new Tensor('int32', [values.length], Int32Array.from(values));
    return {
      ...prepared,
      patchPositions: new Tensor(
        'int32',
        [2, patches],
        Int32Array.from([...patchOrder.map((i) => at[i]!), ...patchOrder.map((i) => at[patches + i]!)]),
      ),
      windowOrder: int32(patchOrder),
      windowSeqlens: int32(starts.map((block) => block * merge ** 2)),
      blockOrder: int32(blockOrder),
    };
  }

  /** Seconds, in steps of their own; float32 after each product, as torch has it. Embeddings that come without are one a second. */
  static override timeOf(
    frame: number,
    { secondPerGridTs: seconds }: MappedItem['tensors'],
    { vision_config: vision }: QwenVlConfig<Qwen25VlVisionConfig>,
  ): number {
    const [second] = seconds === undefined ? [1] : Array.from(seconds.data as Float32Array, Number);
    return Math.floor(f32(f32(frame * second!) * vision.tokens_per_second));
  }

  constructor(config: QwenVlConfig<Qwen25VlVisionConfig>) {
    super(config, new Qwen25VisionTransformer(config.vision_config));
  }
}
