/** Architecture -> model class. Built-in ones are imported when a checkpoint names them. */
import { setModelClassResolver, type ResolvedModelClass } from '../config/model-config';
import type { HookOptions } from '../config/hooks';
import type { ModelClass } from '../config/model-class';
import { OcelliError, nearestName } from '../errors';
import type { DummyDataFactory, InputProcessor } from '../inputs/registry';
import { INPUT_REGISTRY, MULTIMODAL_REGISTRY } from '../multimodal';
import type * as Gemma from './gemma';
import type * as Gemma3 from './gemma3';
import type * as Idefics3 from './idefics3';
import type * as InternVl from './internvl';
import type * as Llama from './llama';
import type * as Llava from './llava';
import type * as LlavaNext from './llava_next';
import type * as LlavaOnevision from './llava_onevision';
import type * as Mistral3 from './mistral3';
import type * as PaliGemma from './paligemma';
import type * as Phi3 from './phi3';
import type * as Pixtral from './pixtral';
import type * as Qwen25Vl from './qwen2_5_vl';
import type * as Qwen2Vl from './qwen2_vl';
import type * as Qwen3Vl from './qwen3_vl';
import type { InputMapper, MaxTokens } from '../multimodal';

export interface ModelHooks {
  imageInputMapper?: InputMapper | true;
  maxImageTokens?: MaxTokens;
  dummyData?: DummyDataFactory;
  inputProcessor?: InputProcessor;
  /** The mmProcessorKwargs that all of these take; the default mapper takes any. */
  kwargs?: HookOptions['kwargs'];
}

/** @param config config.json as it is, where one architecture has checkpoints of two kinds */
type Loader = (config: Readonly<Record<string, unknown>>) => Promise<ModelClass>;

/* eslint-disable @typescript-eslint/no-require-imports -- import() inside CommonJS is an ES import, which test runners' vm contexts refuse */
const llama: Loader = async () => (require('./llama') as typeof Llama).LlamaForCausalLM;
const llamaModel: Loader = async () => (require('./llama') as typeof Llama).LlamaModel;
const gemmaModel: Loader = async () => (require('./gemma') as typeof Gemma).GemmaModel;
const gemma: Loader = async () => (require('./gemma') as typeof Gemma).GemmaForCausalLM;
const phi3: Loader = async () => (require('./phi3') as typeof Phi3).Phi3ForCausalLM;
const idefics3: Loader = async () => (require('./idefics3') as typeof Idefics3).Idefics3ForConditionalGeneration;
const gemma3: Loader = async () => (require('./gemma3') as typeof Gemma3).Gemma3ForConditionalGeneration;
const internVl: Loader = async () => (require('./internvl') as typeof InternVl).InternVLForConditionalGeneration;
const mistral3: Loader = async () => (require('./mistral3') as typeof Mistral3).Mistral3ForConditionalGeneration;
const paliGemma: Loader = async () => (require('./paligemma') as typeof PaliGemma).PaliGemmaForConditionalGeneration;
/** Pixtral's checkpoints name LLaVA's architecture; their tower takes pictures of any size. */
const llava: Loader = async ({ vision_config: vision }) =>
  (vision as { model_type?: unknown } | undefined)?.model_type === 'pixtral'
    ? (require('./pixtral') as typeof Pixtral).PixtralForConditionalGeneration
    : (require('./llava') as typeof Llava).LlavaForConditionalGeneration;
const llavaNext: Loader = async () => (require('./llava_next') as typeof LlavaNext).LlavaNextForConditionalGeneration;
const llavaOnevision: Loader = async () =>
  (require('./llava_onevision') as typeof LlavaOnevision).LlavaOnevisionForConditionalGeneration;
const qwen2Vl: Loader = async () => (require('./qwen2_vl') as typeof Qwen2Vl).Qwen2VLForConditionalGeneration;
const qwen25Vl: Loader = async () => (require('./qwen2_5_vl') as typeof Qwen25Vl).Qwen2_5_VLForConditionalGeneration;
const qwen3Vl: Loader = async () => (require('./qwen3_vl') as typeof Qwen3Vl).Qwen3VLForConditionalGeneration;
/* eslint-enable */

const models = new Map<string, Loader>([
  ['LlamaForCausalLM', llama],
  ['MistralForCausalLM', llama],
  ['Qwen2ForCausalLM', llama],
  ['Qwen3ForCausalLM', llama],
  ['SmolLM3ForCausalLM', llama],
  ['Phi3ForCausalLM', phi3],
  ['GemmaForCausalLM', gemma],
  ['Gemma2ForCausalLM', gemma],
  ['Gemma3ForCausalLM', gemma],
  ['LlamaModel', llamaModel],
  ['MistralModel', llamaModel],
  ['Qwen2Model', llamaModel],
  ['Qwen3Model', llamaModel],
  ['GemmaModel', gemmaModel],
  ['Gemma2Model', gemmaModel],
  ['Gemma3TextModel', gemmaModel],
  ['Gemma3ForConditionalGeneration', gemma3],
  ['InternVLForConditionalGeneration', internVl],
  ['Mistral3ForConditionalGeneration', mistral3],
  ['PaliGemmaForConditionalGeneration', paliGemma],
  ['Idefics3ForConditionalGeneration', idefics3],
  ['SmolVLMForConditionalGeneration', idefics3],
  ['LlavaForConditionalGeneration', llava],
  ['LlavaNextForConditionalGeneration', llavaNext],
  ['LlavaOnevisionForConditionalGeneration', llavaOnevision],
  ['Qwen2VLForConditionalGeneration', qwen2Vl],
  ['Qwen2_5_VLForConditionalGeneration', qwen25Vl],
  ['Qwen3VLForConditionalGeneration', qwen3Vl],
]);

/**
 * Adds a model, or replaces one. `hooks` are the decorators of the class in one plain call; a class that is imported lazily
 * gets them when it is.
 */
export function registerModel(
  architecture: string,
  model: ModelClass | (() => Promise<ModelClass>),
  hooks?: ModelHooks,
): void {
  if (typeof architecture !== 'string' || architecture === '') {
    throw new OcelliError(
      'ERR_REGISTRY',
      `Expected the name of an architecture for registerModel but received ${String(architecture)}`,
      {
        hint: "It is what config.json lists under 'architectures'.",
      },
    );
  }
  if (typeof model !== 'function') {
    throw new OcelliError(
      'ERR_REGISTRY',
      `Expected a model class, or a function that imports one, for '${architecture}' but received ${typeof model}`,
    );
  }
  if (models.has(architecture)) {
    process.emitWarning(`The architecture '${architecture}' already has a model; the new one replaces it`, {
      code: 'WARN_REREGISTERED',
      type: 'OcelliWarning',
    });
  }
  if (isClass(model)) {
    applyHooks(model, hooks);
    models.set(architecture, () => Promise.resolve(model));
    return;
  }
  let loaded: Promise<ModelClass> | undefined;
  models.set(architecture, () => {
    loaded ??= model().then((modelClass) => {
      applyHooks(modelClass, hooks);
      return modelClass;
    });
    // A failed import may be tried again.
    loaded.catch(() => (loaded = undefined));
    return loaded;
  });
}

export function knownArchitectures(): string[] {
  return [...models.keys()].sort();
}

/** A static marker or any registration counts. */
export function supportsMultiModal(modelClass: ModelClass): boolean {
  if ((modelClass as { supportsMultimodal?: unknown }).supportsMultimodal === true) return true;
  return MULTIMODAL_REGISTRY.modalities.some((m) => MULTIMODAL_REGISTRY.getPlugin(m).hasInputMapper(modelClass));
}

/** The class of the first architecture that is known. */
export async function resolveModelClass(
  architectures: readonly string[],
  config: Readonly<Record<string, unknown>> = {},
): Promise<ResolvedModelClass> {
  for (const architecture of architectures) {
    const load = models.get(architecture);
    if (!load) continue;
    const modelClass = await load(config);
    if (typeof modelClass !== 'function') {
      throw new OcelliError(
        'ERR_REGISTRY',
        `Expected a model class from the import of '${architecture}' but received ${typeof modelClass}`,
      );
    }
    return { architecture, modelClass, supportsMultiModal: supportsMultiModal(modelClass) };
  }
  const nearest = nearestName(architectures[0] ?? '', models.keys());
  const { text_config: text } = config;
  throw new OcelliError(
    'ERR_UNKNOWN_ARCHITECTURE',
    `Expected one of ${knownArchitectures().join(', ')} for the architecture but received ${architectures.join(', ')}`,
    {
      hint:
        (nearest ? `The nearest name is ${nearest}: if the model is of that form, write it into config.json. ` : '') +
        (text === undefined
          ? ''
          : "Its language model alone runs with the option architecture, such as 'LlamaForCausalLM', if that is of a known form. ") +
        'A model of your own is added with registerModel(architecture, modelClass).',
      details: { architectures: [...architectures], known: knownArchitectures(), ...(nearest ? { nearest } : {}) },
    },
  );
}

setModelClassResolver(resolveModelClass);

function isClass(model: ModelClass | (() => Promise<ModelClass>)): model is ModelClass {
  const descriptor = Object.getOwnPropertyDescriptor(model, 'prototype');
  return descriptor !== undefined && !descriptor.writable;
}

function applyHooks(modelClass: ModelClass, hooks: ModelHooks | undefined): void {
  if (!hooks) return;
  const { imageInputMapper: mapper, maxImageTokens, dummyData, inputProcessor, kwargs } = hooks;
  const options: HookOptions | undefined = kwargs === undefined ? undefined : { kwargs };
  if (mapper === true) MULTIMODAL_REGISTRY.registerImageInputMapper()(modelClass);
  else if (mapper !== undefined) MULTIMODAL_REGISTRY.registerImageInputMapper(mapper, options)(modelClass);
  if (maxImageTokens !== undefined) MULTIMODAL_REGISTRY.registerMaxImageTokens(maxImageTokens, options)(modelClass);
  if (dummyData !== undefined) INPUT_REGISTRY.registerDummyData(dummyData, options)(modelClass);
  if (inputProcessor !== undefined) INPUT_REGISTRY.registerInputProcessor(inputProcessor, options)(modelClass);
}
