import { OcelliError } from '../errors';
import { readGenerationConfig, type GenerationConfig } from './generation-config';
import { checkProcessor, completeConfig, completeTextPart, textConfigOf } from './hf-config';
import { configError } from './fields';
import { isObject, type JsonObject } from './json-file';
import type { ModelClass, MultiModalConfig, RegistryModelConfig } from './model-class';
import { openModelSource, type ModelSource } from './model-source';
import { checkEngineOptions, type EngineOptions, type LoadOptions } from './options';
import { resolveModel } from './resolve-model';

export type ModelDType = 'float32' | 'bfloat16' | 'float16';

/** What a registry of models answers for a list of architectures. */
export interface ResolvedModelClass {
  architecture: string;
  modelClass: ModelClass;
  supportsMultiModal: boolean;
}

export type ModelClassResolver = (architectures: readonly string[], config: JsonObject) => Promise<ResolvedModelClass>;

let resolver: ModelClassResolver | undefined;

/** Set by lib/models/registry.ts: registries know configurations, so configurations must not import models. */
export function setModelClassResolver(next: ModelClassResolver): void {
  resolver = next;
}

interface Fields {
  name: string;
  source: ModelSource;
  options: EngineOptions;
  hfConfig: JsonObject;
  generationConfig: GenerationConfig;
  preprocessorConfig: JsonObject | undefined;
  processorConfig: JsonObject | undefined;
  videoProcessorConfig: JsonObject | undefined;
  architectures: readonly string[];
  resolved: ResolvedModelClass;
}

/** A model's configuration files, read and completed; no weights. */
export class ModelConfig implements RegistryModelConfig {
  /** As it was asked for. */
  readonly name: string;
  /** The folder or GGUF file. */
  readonly model: string;
  /** What its files say. */
  readonly source: ModelSource;
  readonly options: Readonly<EngineOptions>;
  /** config.json with defaults filled in; names are the checkpoint's. */
  readonly hfConfig: Readonly<JsonObject>;
  /** text_config, or hfConfig of a text model. */
  readonly textConfig: Readonly<JsonObject>;
  readonly generationConfig: GenerationConfig;
  readonly preprocessorConfig?: Readonly<JsonObject>;
  readonly processorConfig?: Readonly<JsonObject>;
  readonly videoProcessorConfig?: Readonly<JsonObject>;
  readonly architecture: string;
  readonly architectures: readonly string[];
  readonly modelClass: ModelClass;
  readonly multimodalConfig?: MultiModalConfig;
  /** What linear weights are computed in. */
  readonly dtype: ModelDType;
  readonly maxModelLen: number;

  private constructor(f: Fields) {
    this.name = f.name;
    this.model = f.source.path;
    this.source = f.source;
    this.options = f.options;
    this.hfConfig = f.hfConfig;
    this.textConfig = textConfigOf(f.hfConfig);
    this.generationConfig = f.generationConfig;
    if (f.preprocessorConfig) this.preprocessorConfig = f.preprocessorConfig;
    if (f.processorConfig) this.processorConfig = f.processorConfig;
    if (f.videoProcessorConfig) this.videoProcessorConfig = f.videoProcessorConfig;
    this.architectures = f.architectures;
    this.architecture = f.resolved.architecture;
    this.modelClass = f.resolved.modelClass;
    if (f.resolved.supportsMultiModal) {
      this.multimodalConfig = {
        limitPerPrompt: { ...f.options.limitMmPerPrompt },
        mmProcessorKwargs: { ...f.options.mmProcessorKwargs },
      };
    } else if (f.options.limitMmPerPrompt !== undefined) {
      throw new OcelliError(
        'ERR_OPTION',
        `Expected a multimodal model for limitMmPerPrompt but ${f.name} (${this.architecture}) is a text model`,
        {
          details: { option: 'limitMmPerPrompt' },
        },
      );
    }
    this.dtype = dtypeOf(f.options.dtype ?? 'auto', f.hfConfig, this.textConfig);
    this.maxModelLen = maxModelLen(f.options.maxModelLen, this.textConfig);
  }

  /** @param model 'demo', a folder, a GGUF file, a file URL, or owner/name[@revision] */
  static async load(model: string | URL, options: EngineOptions & LoadOptions = {}): Promise<ModelConfig> {
    const {
      signal,
      onProgress: _onProgress,
      revision,
      cacheDir,
      offline: _offline,
      ...engine
    } = checkEngineOptions(options);
    signal?.throwIfAborted();
    const { name, path } = await resolveModel(model, { revision, cacheDir });
    const source = await openModelSource(path, engine);
    const raw = await source.json('config.json');
    if (raw === undefined) {
      throw new OcelliError('ERR_MODEL_NOT_FOUND', `Expected config.json in ${path} but found none`, {
        hint: 'A model is a folder with config.json, tokenizer.json and safetensors files, or a GGUF file.',
        details: { model: name, looked: [path] },
      });
    }
    const { architectures } = raw;
    if (
      !Array.isArray(architectures) ||
      architectures.length === 0 ||
      !architectures.every((a) => typeof a === 'string')
    ) {
      throw configError('architectures', 'a list with the name of the model class', architectures);
    }
    // The class first: an unknown architecture is the clearer error than a field that its configuration lacks.
    if (!resolver)
      throw new OcelliError(
        'ERR_UNKNOWN_ARCHITECTURE',
        'Expected the registry of models to be loaded; import ocelli, not its parts',
      );
    const chosen = engine.architecture;
    const resolved = await resolver(chosen === undefined ? (architectures as string[]) : [chosen], raw);
    const [generation, preprocessorConfig, processorConfig, videoProcessorConfig] = await Promise.all(
      ['generation', 'preprocessor', 'processor', 'video_preprocessor'].map((f) => source.json(`${f}_config.json`)),
    );
    signal?.throwIfAborted();
    // A text class that was asked for takes the language model of a multimodal checkpoint; the rest of it is not looked at.
    const textPart = chosen !== undefined && !resolved.supportsMultiModal ? completeTextPart(raw) : undefined;
    const hfConfig = textPart ?? completeConfig(raw);
    if (!textPart) checkProcessor(hfConfig, preprocessorConfig);
    return new ModelConfig({
      name,
      source,
      options: engine,
      hfConfig,
      generationConfig: readGenerationConfig(generation, textPart ? raw : hfConfig, textConfigOf(hfConfig)),
      preprocessorConfig,
      processorConfig,
      videoProcessorConfig,
      architectures: architectures as string[],
      resolved,
    });
  }
}

function dtypeOf(option: 'auto' | ModelDType, config: JsonObject, textConfig: JsonObject): ModelDType {
  if (option !== 'auto') return option;
  const stored = config.dtype ?? config.torch_dtype ?? textConfig.dtype ?? textConfig.torch_dtype ?? 'float32';
  if (stored === 'float32' || stored === 'bfloat16' || stored === 'float16') return stored;
  throw configError('torch_dtype', "'float32', 'bfloat16' or 'float16'", stored, 'Choose one with the option dtype.');
}

/** Positions that the model was trained for, times what linear scaling and YaRN stretch them by. */
function maxModelLen(option: number | undefined, textConfig: JsonObject): number {
  const positions = textConfig.max_position_embeddings;
  if (typeof positions !== 'number') {
    if (option !== undefined) return option;
    throw configError('max_position_embeddings', 'a positive integer', positions, 'Or give the option maxModelLen.');
  }
  const scaling = textConfig.rope_scaling;
  const type = isObject(scaling) ? (scaling.rope_type ?? scaling.type) : undefined;
  const factor = isObject(scaling) && type === 'linear' && typeof scaling.factor === 'number' ? scaling.factor : 1;
  const stretched = isObject(scaling) && type === 'yarn' ? yarnLength(scaling) : 0;
  const longest = Math.max(stretched, Math.floor(positions * factor));
  if (option === undefined) return longest;
  if (option <= longest) return option;
  throw new OcelliError(
    'ERR_OPTION',
    `Expected at most ${longest} (max_position_embeddings of the model) for maxModelLen but received ${option}`,
    {
      details: { option: 'maxModelLen', maximum: longest },
    },
  );
}

/** Some files name the length before the stretch, some the one behind it, as max_position_embeddings. */
function yarnLength({ factor, original_max_position_embeddings: original }: JsonObject): number {
  return typeof factor === 'number' && typeof original === 'number' ? Math.floor(original * factor) : 0;
}
