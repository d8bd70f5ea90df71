/** `ocelli/nn`: what a model's author writes with. */
export { type Dim, SymbolicDim, addDim, divDim, mulDim, sameDim, subDim } from './dim';
export { Value } from './value';
export { Module, Parameter } from './module';
export {
  type Activation,
  type LinearOptions,
  type Operand,
  type PagedAttentionOptions,
  type RopeOptions,
  act,
  add,
  attentionPaged,
  attentionVarlen,
  concat,
  constant,
  gatedAct,
  gatherRows,
  kvStore,
  layerNorm,
  linear,
  mul,
  patchify,
  rmsNorm,
  rope,
  rowsOf,
  scatterRows,
} from './ops';
export { expand, reshape, slice, split } from './views';
export { Linear, Embedding, mergedLinear } from './layers/linear';
export { LayerNorm, RMSNorm } from './layers/norm';
export { RotaryEmbedding, type RopeScaling, type RotaryOptions } from './layers/rotary';
export { Attention, VisionAttention, type AttentionOptions } from './layers/attention';
export { activationOf } from './layers/activation';
export { type BorderOptions, addMultimodal, encoderOutput, mergeMultimodal } from './border';
export { KvCache } from './kv-cache';
export {
  AttnMetadata,
  type ForwardInputs,
  type InputSpec,
  type InputSpecs,
  type ModelInstance,
  type TraceableClass,
  type TracedEncoder,
  type TracedModel,
  traceModel,
} from './trace';
export { dumpProgram } from './dump';
export { type WeightNameRule, resolveWeightNames, spellings } from './weight-names';
export type { ProgramJson } from './program';
