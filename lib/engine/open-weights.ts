/** A model's checkpoint, opened, and where in it each weight of the programs is. */
import type { ModelSource } from '../config/model-source';
import type { EngineOptions } from '../config/options';
import type { CheckpointHandle, ModelOptions, NativeBinding } from '../native';
import { resolveWeightNames, type TracedModel } from '../nn';
import { openAdapters } from './lora';

export interface OpenedWeights {
  checkpoint: CheckpointHandle;
  places: Required<Pick<ModelOptions, 'names' | 'pairedHeads' | 'transposed' | 'deltas'>>;
}

export async function openWeights(
  native: NativeBinding,
  source: ModelSource,
  traced: TracedModel,
  { lora }: Pick<EngineOptions, 'lora'> = {},
): Promise<OpenedWeights> {
  const { files, names: spelled, pairedHeads = {} } = await source.weights();
  const checkpoint = await native.openCheckpoint(files);
  const stored = spelled?.keys() ?? native.checkpointTensors(checkpoint).map((t) => t.name);
  const programs = [traced.text, ...traced.encoders.flatMap((e) => e.program ?? [])];
  const names = resolveWeightNames(programs, stored, traced.weightNames);
  for (const [part, name] of Object.entries(names)) names[part] = spelled?.get(name) ?? name;
  const transposed = Object.fromEntries(
    Object.entries(traced.transposed).map(([part, matrix]) => [names[part]!, matrix]),
  );
  const shapes = new Map(native.checkpointTensors(checkpoint).map((t) => [t.name, t.shape]));
  const deltas = lora === undefined ? [] : await openAdapters(native, lora, traced, names, shapes);
  return { checkpoint, places: { names, pairedHeads, transposed, deltas } };
}
