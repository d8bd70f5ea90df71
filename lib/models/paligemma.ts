/** PaliGemma and PaliGemma 2 (Beyer et al. 2024, arXiv:2407.07726): pictures first, then a prompt that attends both ways. */
import type { InputContext } from '../inputs/context';
import type { DummyData, LLMInputs } from '../inputs/registry';
import type { Tensor } from '../media/tensor';
import { INPUT_REGISTRY, MULTIMODAL_REGISTRY } from '../multimodal';
import { Linear, Module, mergeMultimodal, type ForwardInputs, type InputSpecs, type Value } from '../nn';
import type { Segment } from '../tokenizer';
import { GemmaForCausalLM, type GemmaConfig } from './gemma';
import type { PromptPositions, SupportsMultiModal } from './hooks';
import { blackImage, dummyImages, imagesOf, writeImages } from './image-inputs';
import { llavaWeightNames } from './llava';
import { SiglipVisionModel, siglipTower } from './siglip';
import type { VisionConfig } from './vision-encoder';

export interface PaliGemmaConfig {
  model_type: 'paligemma';
  text_config: GemmaConfig;
  vision_config: VisionConfig;
  image_token_index: number;
  bos_token_id: number;
}

export interface PaliGemmaInputs extends ForwardInputs {
  /** [pictures, 3, side, side], normalised. */
  pixelValues?: Value;
  /** Features that take the place of tower and projector: [rows, width]. */
  imageEmbeds?: Value;
}

const imageTokens = ({ vision_config: vision }: PaliGemmaConfig): number => siglipTower.rows(vision);

export function getMaxPaliGemmaImageTokens(ctx: InputContext): number {
  return imageTokens(ctx.getHfConfig<PaliGemmaConfig>('paligemma'));
}

export function dummyDataForPaliGemma(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
): DummyData {
  const config = ctx.getHfConfig<PaliGemmaConfig>('paligemma');
  const side = config.vision_config.image_size;
  return dummyImages(seqLen, mmCounts.image!, config.image_token_index, imageTokens(config), blackImage(side, side));
}

/**
 * Pictures stand where the text has them, or in front where it has none; the BOS comes behind the last of them, and a line feed ends the
 * prompt. A prompt of ids has all that already.
 */
export function inputProcessorForPaliGemma(ctx: InputContext, inputs: LLMInputs): LLMInputs {
  const config = ctx.getHfConfig<PaliGemmaConfig>('paligemma');
  const { image_token_index: token, bos_token_id: bos } = config;
  const images = imagesOf(inputs).length;
  const rows = {
    placeholderTokenId: token,
    width: config.text_config.hidden_size,
    ofPicture: () => imageTokens(config),
    ofMapped: ({ imageEmbeds }: Readonly<Record<string, Tensor>>) => imageEmbeds?.shape.at(-2) ?? imageTokens(config),
    ofEmbeds: (count: number) => count,
  };
  const write = (count: number): Segment[] => [{ ids: new Array<number>(count).fill(token) }];
  if (images === 0 || !inputs.segments) return { ...writeImages(inputs, rows, write), atomicSpans: whole };
  const given: Segment[] = withoutBos(inputs.segments, bos);
  const last = given.findLastIndex((s) => 'ids' in s && s.ids.includes(token));
  const pictures = last < 0 ? [{ ids: new Array<number>(images).fill(token) }] : given.slice(0, last + 1);
  const text = withoutBos(given.slice(last + 1), bos);
  const segments = [...pictures, { ids: [bos] }, ...endedByLine(text)];
  const promptTokenIds = segments.flatMap((s) => ('ids' in s ? s.ids : []));
  return { ...writeImages({ ...inputs, promptTokenIds, segments }, rows, write), atomicSpans: whole };
}

/** Text and pictures see all of the prompt. */
const whole = (promptTokenIds: readonly number[]): [number, number][] => [[0, promptTokenIds.length]];

function withoutBos(segments: readonly Segment[], bos: number): Segment[] {
  const [first, ...rest] = segments;
  if (first === undefined || 'text' in first || first.ids[0] !== bos) return [...segments];
  return [{ ids: first.ids.slice(1) }, ...rest];
}

function endedByLine(segments: readonly Segment[]): Segment[] {
  const last = segments.at(-1);
  if (last && 'text' in last) return [...segments.slice(0, -1), { ...last, text: `${last.text}\n` }];
  return [...segments, { text: '\n', trusted: true }];
}

class PaliGemmaProjector extends Module {
  readonly linear: Linear;

  constructor({ vision_config: vision, text_config: text }: PaliGemmaConfig) {
    super();
    this.linear = new Linear(vision.hidden_size, text.hidden_size);
  }

  forward(features: Value): Value {
    return this.linear.forward(features);
  }
}

@MULTIMODAL_REGISTRY.registerImageInputMapper()
@MULTIMODAL_REGISTRY.registerMaxImageTokens(getMaxPaliGemmaImageTokens)
@INPUT_REGISTRY.registerDummyData(dummyDataForPaliGemma)
@INPUT_REGISTRY.registerInputProcessor(inputProcessorForPaliGemma)
export class PaliGemmaForConditionalGeneration extends Module implements SupportsMultiModal {
  static readonly supportsMultimodal = true;
  static readonly forms = [['pixelValues'], ['imageEmbeds'], []];
  /** A step holds the whole prompt or none of it. */
  static readonly wholePrompts = true;

  static inputs({ vision_config: vision, text_config: text }: PaliGemmaConfig): InputSpecs {
    return {
      pixelValues: { dtype: 'float32', shape: ['N', vision.num_channels, vision.image_size, vision.image_size] },
      imageEmbeds: { dtype: 'float32', shape: ['L', text.hidden_size] },
    };
  }

  /** The first token is at 1. */
  static positions(_ctx: InputContext, promptTokenIds: readonly number[]): PromptPositions {
    return { positions: Int32Array.from(promptTokenIds, (_, i) => i + 1), delta: 1 };
  }

  static readonly weightNames = llavaWeightNames;

  readonly vision_tower: SiglipVisionModel;
  readonly multi_modal_projector: PaliGemmaProjector;
  readonly language_model: GemmaForCausalLM;
  readonly #imageToken: number;

  constructor(config: PaliGemmaConfig) {
    super();
    this.vision_tower = new SiglipVisionModel(config.vision_config, { postNorm: true });
    this.multi_modal_projector = new PaliGemmaProjector(config);
    this.language_model = new GemmaForCausalLM(config.text_config);
    this.#imageToken = config.image_token_index;
  }

  forward(inputs: PaliGemmaInputs): Value {
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
