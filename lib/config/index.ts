export { ModelConfig, type ModelDType } from './model-config';
export { type EngineOptions, type LoadOptions, type LoadProgress, checkEngineOptions } from './options';
export { type GenerationConfig } from './generation-config';
export { findWeightFiles } from './weight-files';
export { resolveModel, type ResolvedModel } from './resolve-model';
