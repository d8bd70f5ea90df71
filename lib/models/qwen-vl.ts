/** What Qwen2-VL, Qwen2.5-VL and Qwen3-VL share: pictures and videos at any resolution, and M-RoPE in the text. */
import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import { Tensor } from '../media/tensor';
import { INPUT_REGISTRY, MULTIMODAL_REGISTRY } from '../multimodal';
import type { VideoLimits } from '../multimodal/processors/qwen2-vl';
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
import type { MappedItem, PlacedItem, PromptPositions, SupportsMultiModal } from './hooks';
import { LlamaForCausalLM } from './llama';
import {
  dummyDataForQwenVl,
  embedsWidth,
  featureLayers,
  featureRows,
  getMaxQwenVlImageTokens,
  getMaxQwenVlVideoTokens,
  gridOf,
  inputProcessorForQwenVl,
  type QwenVlConfig,
} from './qwen-inputs';
import { mapQwenVideo, qwenKwargs, qwenVideoKwargs } from './qwen-video';
import { patchPositions, type QwenVisionInputs } from './qwen-vision';
import { isVideo, pictureAndVideoForms } from './video-inputs';

export interface QwenVlInputs extends ForwardInputs, Partial<QwenVisionInputs> {
  /** The same of a video; the index arrays are those of a picture. */
  pixelValuesVideos?: Value;
  /** Features that take the place of the tower's: [rows, width]; side by side where several layers take some. */
  imageEmbeds?: Value;
  videoEmbeds?: Value;
}

export interface QwenVisionTransformer extends Module {
  /** -> [rows, width] for the placeholders, then what is added to them behind the first text layers. */
  forward(inputs: QwenVisionInputs): Value[];
}

@MULTIMODAL_REGISTRY.registerImageInputMapper()
@MULTIMODAL_REGISTRY.registerMaxImageTokens(getMaxQwenVlImageTokens, qwenKwargs)
@MULTIMODAL_REGISTRY.registerVideoInputMapper(mapQwenVideo, qwenVideoKwargs)
@MULTIMODAL_REGISTRY.registerMaxMultimodalTokens('video', getMaxQwenVlVideoTokens, qwenKwargs)
@INPUT_REGISTRY.registerDummyData(dummyDataForQwenVl, qwenKwargs)
@INPUT_REGISTRY.registerInputProcessor(inputProcessorForQwenVl, qwenKwargs)
export class QwenVLForConditionalGeneration extends LlamaForCausalLM implements SupportsMultiModal {
  static readonly supportsMultimodal = true;
  static readonly forms = pictureAndVideoForms('patchPositions', 'cuSeqlens');
  static readonly videoLimits: VideoLimits = 'frame';
  /** Time, height, width. */
  static readonly positionAxes = 3;

  static inputs(config: QwenVlConfig): InputSpecs {
    const { in_channels: channels, temporal_patch_size: time, patch_size: patch } = config.vision_config;
    const patches = { dtype: 'float32', shape: ['P', channels * time * patch * patch] } as const;
    const embeds = { dtype: 'float32', shape: ['L', embedsWidth(config)] } as const;
    return {
      pixelValues: patches,
      pixelValuesVideos: patches,
      patchPositions: { dtype: 'int32', shape: [2, 'P'], kind: 'positions' },
      cuSeqlens: { dtype: 'int32', shape: ['C'], kind: 'cuSeqlens' },
      imageEmbeds: embeds,
      videoEmbeds: embeds,
    };
  }

  static prepare(ctx: InputContext, { tensors }: MappedItem): Record<string, Tensor> {
    if ((tensors.pixelValuesVideos ?? tensors.pixelValues) === undefined) return {};
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
   * after it goes on behind the largest of these. A run of a video's placeholders is whole frames, each at its own time.
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
      const frame = rows * cols;
      const total = ranges.reduce((sum, [, count]) => sum + count, 0);
      if (total !== featureRows(grid, config) || ranges.some(([, count]) => count % frame !== 0)) {
        throw new OcelliError(
          'ERR_PLACEHOLDER_COUNT',
          `Expected ${featureRows(grid, config)} placeholders in a row for a picture of ${grid[0]}x${rows}x${cols} but received ${ranges.map(([, n]) => n).join(' + ')}`,
        );
      }
      for (const [start, count] of ranges) {
        text(start);
        const time = (i: number): number => this.timeOf(Math.floor(i / frame), tensors, config);
        for (let i = 0; i < count; i++) {
          const place = i % frame;
          put(at++, next + time(i), next + Math.floor(place / cols), next + (place % cols));
        }
        next += Math.max(time(count - 1) + 1, rows, cols);
      }
    }
    text(length);
    return { positions, delta: next - length };
  }

  /** How far along the axis of time a video's frame is behind the first one of its run. */
  static timeOf(frame: number, _tensors: MappedItem['tensors'], _config: QwenVlConfig): number {
    return frame;
  }

  static override readonly weightNames: readonly WeightNameRule[] = [
    ['model.', 'model.language_model.'],
    ['visual.', 'model.visual.'],
  ];

  readonly visual: QwenVisionTransformer;
  readonly #imageToken: number;
  readonly #videoToken: number;
  readonly #layers: number;
  readonly #width: number;

  constructor(config: QwenVlConfig, visual: QwenVisionTransformer) {
    super(config.text_config);
    const sections = config.text_config.rope_scaling?.mrope_section;
    if (sections?.length !== 3)
      throw new OcelliError(
        'ERR_CONFIG',
        `Expected one section for each of time, height and width for rope_scaling.mrope_section but received ${JSON.stringify(sections) ?? 'nothing'}`,
        { details: { field: 'rope_scaling.mrope_section' } },
      );
    this.visual = visual;
    this.#imageToken = config.image_token_index;
    this.#videoToken = config.video_token_index;
    this.#layers = featureLayers(config);
    this.#width = config.text_config.hidden_size;
  }

  override forward(inputs: QwenVlInputs): Value {
    const { inputIds } = inputs;
    const features = this.#features(inputs);
    const [image, video] = isVideo(inputs) ? [[], features] : [features, []];
    const ofVideos = { modality: 'video' };
    const embeds = this.model.embed_tokens.forward(inputIds);
    const pictures = mergeMultimodal(embeds, inputIds, image[0], this.#imageToken);
    const merged = mergeMultimodal(pictures, inputIds, video[0], this.#videoToken, ofVideos);
    return this.model.forward(inputs, merged, (hidden, layer) => {
      const k = layer + 1;
      return k < this.#layers ? addMultimodal(addMultimodal(hidden, image[k]), video[k], ofVideos) : hidden;
    });
  }

  #features(inputs: QwenVlInputs): Value[] {
    const pixelValues = inputs.pixelValuesVideos ?? inputs.pixelValues;
    if (pixelValues !== undefined) return this.visual.forward({ ...inputs, pixelValues } as QwenVisionInputs);
    const embeds = inputs.videoEmbeds ?? inputs.imageEmbeds;
    return embeds === undefined ? [] : split(embeds, new Array<number>(this.#layers).fill(this.#width));
  }
}
