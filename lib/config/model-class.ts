/** What the registries need of a model: its class, and of a configuration: the class and the multimodal options. */

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- any constructor is a model class; instances are made by the tracer
export type ModelClass = abstract new (...args: any[]) => object;

export interface MultiModalConfig {
  /** Items allowed per prompt and modality, as the user set them. */
  limitPerPrompt: Readonly<Record<string, number>>;
  mmProcessorKwargs: Readonly<Record<string, unknown>>;
}

/** The part of ModelConfig that registries read; lib/config/model-config.ts implements it. */
export interface RegistryModelConfig {
  readonly model: string;
  readonly modelClass: ModelClass;
  /** Undefined for a text-only model. */
  readonly multimodalConfig?: MultiModalConfig;
  readonly hfConfig: Readonly<Record<string, unknown>>;
  /** preprocessor_config.json and processor_config.json, where the checkpoint has them. */
  readonly preprocessorConfig?: Readonly<Record<string, unknown>>;
  readonly processorConfig?: Readonly<Record<string, unknown>>;
  /** video_preprocessor_config.json, likewise. */
  readonly videoProcessorConfig?: Readonly<Record<string, unknown>>;
}
