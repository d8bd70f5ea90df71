/** Qwen3-VL (Qwen team 2025): Qwen2-VL with a table of positions beside the rope, and features for the first text layers too (DeepStack). */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import { Tensor } from '../media/tensor';
import { INPUT_REGISTRY } from '../multimodal';
import {
  LayerNorm,
  Linear,
  Module,
  Parameter,
  activationOf,
  add,
  reshape,
  type Activation,
  type InputSpecs,
  type Value,
} from '../nn';
import { Corners, alignedPlaces, blendCorners } from './bilinear';
import type { MappedItem } from './hooks';
import {
  QwenPatchEmbed,
  QwenVisionAttention,
  qwenNorm,
  type QwenVisionConfig,
  type QwenVisionInputs,
} from './qwen-vision';
import { gridOf, type QwenVlConfig } from './qwen-inputs';
import { QwenVLForConditionalGeneration } from './qwen-vl';
import { inputProcessorForQwen3Vl } from './qwen3-video';
import { qwenKwargs } from './qwen-video';
import { pictureAndVideoForms } from './video-inputs';

export interface Qwen3VlVisionConfig extends QwenVisionConfig {
  hidden_size: number;
  intermediate_size: number;
  /** Of the mergers' outputs: the text model's width. */
  out_hidden_size: number;
  /** Rows of the table, a square. */
  num_position_embeddings: number;
  deepstack_visual_indexes: readonly number[];
}

interface Qwen3VisionInputs extends QwenVisionInputs {
  /** [4, patches]: rows of the table around each patch, and how much of each. */
  tableIndex: Value;
  tableWeight: Value;
}

class Qwen3VisionMLP extends Module {
  readonly linear_fc1: Linear;
  readonly linear_fc2: Linear;
  readonly #act: Activation;

  constructor({ hidden_size: width, intermediate_size: inner, hidden_act: act }: Qwen3VlVisionConfig) {
    super();
    this.linear_fc1 = new Linear(width, inner);
    this.linear_fc2 = new Linear(inner, width);
    this.#act = activationOf(act, 'vision_config.hidden_act');
  }

  forward(x: Value): Value {
    return this.linear_fc2.forward(this.linear_fc1.forward(x, { act: this.#act }));
  }
}

class Qwen3VisionBlock extends Module {
  readonly norm1: LayerNorm;
  readonly norm2: LayerNorm;
  readonly attn: QwenVisionAttention;
  readonly mlp: Qwen3VisionMLP;

  constructor(config: Qwen3VlVisionConfig) {
    super();
    this.norm1 = new LayerNorm(config.hidden_size, qwenNorm);
    this.norm2 = new LayerNorm(config.hidden_size, qwenNorm);
    this.attn = new QwenVisionAttention(config, config.hidden_size);
    this.mlp = new Qwen3VisionMLP(config);
  }

  forward(x: Value, positions: Value, cuSeqlens: Value): Value {
    const attended = add(x, this.attn.forward(this.norm1.forward(x), positions, cuSeqlens));
    return add(attended, this.mlp.forward(this.norm2.forward(attended)));
  }
}

/** The patches of a block are neighbours: joined they are one row of the text model. Those for later layers are normed joined. */
class Qwen3PatchMerger extends Module {
  readonly norm: LayerNorm;
  readonly linear_fc1: Linear;
  readonly linear_fc2: Linear;
  readonly #merged: number;
  readonly #joinFirst: boolean;

  constructor(config: Qwen3VlVisionConfig, options: { joinFirst: boolean }) {
    super();
    this.#merged = config.hidden_size * config.spatial_merge_size ** 2;
    this.#joinFirst = options.joinFirst;
    this.norm = new LayerNorm(options.joinFirst ? this.#merged : config.hidden_size, qwenNorm);
    this.linear_fc1 = new Linear(this.#merged, this.#merged);
    this.linear_fc2 = new Linear(this.#merged, config.out_hidden_size);
  }

  /** [patches, width] -> [patches / merge^2, hidden]. */
  forward(x: Value): Value {
    const join = (rows: Value): Value => reshape(rows, [-1, this.#merged]);
    const normed = this.#joinFirst ? this.norm.forward(join(x)) : join(this.norm.forward(x));
    return this.linear_fc2.forward(this.linear_fc1.forward(normed, { act: 'gelu' }));
  }
}

/** A learned square of positions, stretched over the picture. */
class Qwen3PositionTable extends Module {
  readonly weight: Parameter;

  constructor(config: Qwen3VlVisionConfig) {
    super();
    this.weight = new Parameter([tableSide(config) ** 2, config.hidden_size]);
  }

  forward(index: Value, weight: Value): Value {
    return blendCorners(this.weight, index, weight);
  }
}

class Qwen3VisionTransformer extends Module {
  readonly patch_embed: QwenPatchEmbed;
  readonly pos_embed: Qwen3PositionTable;
  readonly blocks: readonly Qwen3VisionBlock[];
  readonly merger: Qwen3PatchMerger;
  readonly deepstack_merger_list: readonly Qwen3PatchMerger[];
  readonly #deepstack: readonly number[];

  constructor(config: Qwen3VlVisionConfig) {
    super();
    this.#deepstack = config.deepstack_visual_indexes;
    this.patch_embed = new QwenPatchEmbed(config, config.hidden_size, { bias: true });
    this.pos_embed = new Qwen3PositionTable(config);
    this.blocks = Array.from({ length: config.depth }, () => new Qwen3VisionBlock(config));
    this.merger = new Qwen3PatchMerger(config, { joinFirst: false });
    this.deepstack_merger_list = this.#deepstack.map(() => new Qwen3PatchMerger(config, { joinFirst: true }));
  }

  forward({ pixelValues, patchPositions, cuSeqlens, tableIndex, tableWeight }: Qwen3VisionInputs): Value[] {
    let x = add(this.patch_embed.forward(pixelValues), this.pos_embed.forward(tableIndex, tableWeight));
    const states = this.blocks.map((block) => (x = block.forward(x, patchPositions, cuSeqlens)));
    const deeper = this.deepstack_merger_list.map((merger, k) => merger.forward(states[this.#deepstack[k]!]!));
    return [this.merger.forward(x), ...deeper];
  }
}

function configError(field: string, expected: string, received: unknown): OcelliError {
  return new OcelliError('ERR_CONFIG', `Expected ${expected} for ${field} but received ${JSON.stringify(received)}`, {
    details: { field },
  });
}

/** Rows and columns of the table. */
function tableSide({ num_position_embeddings: rows }: Qwen3VlVisionConfig): number {
  const side = Math.sqrt(rows);
  if (Number.isInteger(side)) return side;
  throw configError('vision_config.num_position_embeddings', 'a square number', rows);
}

@INPUT_REGISTRY.registerInputProcessor(inputProcessorForQwen3Vl, qwenKwargs)
export class Qwen3VLForConditionalGeneration extends QwenVLForConditionalGeneration {
  static override readonly forms = pictureAndVideoForms('patchPositions', 'cuSeqlens', 'tableIndex', 'tableWeight');
  static override readonly videoLimits = 'video';

  static override inputs(config: QwenVlConfig): InputSpecs {
    return {
      ...super.inputs(config),
      tableIndex: { dtype: 'int32', shape: [4, 'P'], kind: 'positions' },
      tableWeight: { dtype: 'float32', shape: [4, 'P'], kind: 'positions' },
    };
  }

  static override prepare(ctx: InputContext, item: MappedItem): Record<string, Tensor> {
    const prepared = super.prepare(ctx, item);
    const { patchPositions: positions } = prepared;
    if (positions === undefined) return prepared;
    const config = ctx.getHfConfig<QwenVlConfig<Qwen3VlVisionConfig>>('qwen3_vl');
    const side = tableSide(config.vision_config);
    const [, rows, cols] = gridOf(item.tensors, config);
    const [ys, xs] = [alignedPlaces(side, rows), alignedPlaces(side, cols)];
    const patches = positions.shape[1]!;
    const at = positions.data as Int32Array;
    const corners = new Corners(patches);
    for (let i = 0; i < patches; i++) corners.blend(i, ys[at[i]!]!, xs[at[patches + i]!]!, (y, x) => y * side + x);
    return {
      ...prepared,
      tableIndex: new Tensor('int32', [4, patches], corners.index),
      tableWeight: new Tensor('float32', [4, patches], corners.weight),
    };
  }

  constructor(config: QwenVlConfig<Qwen3VlVisionConfig>) {
    const { deepstack_visual_indexes: blocks, depth } = config.vision_config;
    if (blocks.some((block) => block >= depth))
      throw configError('vision_config.deepstack_visual_indexes', `blocks below vision_config.depth ${depth}`, blocks);
    const layers = config.text_config.num_hidden_layers;
    if (blocks.length > layers)
      throw configError(
        'vision_config.deepstack_visual_indexes',
        `at most text_config.num_hidden_layers ${layers} blocks`,
        blocks,
      );
    super(config, new Qwen3VisionTransformer(config.vision_config));
  }
}
