/** `ocelli/models`: what a model of one's own may be built on. */
export { LlamaForCausalLM, LlamaModel, type LlamaConfig } from './llama';
export { selectedRows, towerOf, type VisionTower } from './vision-tower';
export type { FeatureSelection, FeatureSelectStrategy, VisionConfig, VisionModel } from './vision-encoder';
export { blackImage, dummyImages, expandImages, type ImageRows } from './image-inputs';
