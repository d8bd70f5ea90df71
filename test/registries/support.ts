/** What the tests of the registries share: registries of their own, configurations, recorded warnings. */
import { join } from 'node:path';
import { ModelConfig, type EngineOptions } from '../../dist/config';
import type { ModelClass, RegistryModelConfig } from '../../dist/config/model-class';
import type { RawImage, Tensor } from '../../dist/index';
import { InputRegistry } from '../../dist/inputs/registry';
import '../../dist/models/registry';
import { MultiModalRegistry } from '../../dist/multimodal';
import { fixtureModels } from '../models/fixtures';

export function registries(): { multiModal: MultiModalRegistry; input: InputRegistry } {
  return { multiModal: new MultiModalRegistry(), input: new InputRegistry() };
}

interface Options {
  limits?: Record<string, number>;
  kwargs?: Record<string, unknown>;
  /** A text model: no multimodal configuration. */
  text?: boolean;
  preprocessor?: Record<string, unknown>;
}

const clip = { image_processor_type: 'CLIPImageProcessor', size: { shortest_edge: 8 }, crop_size: 8 };

/** A configuration as registries see it, by default with an image processor of 8 x 8 pixels. */
export function configOf(modelClass: ModelClass, options: Options = {}): RegistryModelConfig {
  const { limits = {}, kwargs = {}, text = false, preprocessor = clip } = options;
  return {
    model: 'made-up',
    modelClass,
    hfConfig: { model_type: 'made-up' },
    preprocessorConfig: preprocessor,
    ...(text ? {} : { multimodalConfig: { limitPerPrompt: limits, mmProcessorKwargs: kwargs } }),
  };
}

/** The configuration of a fixture folder, its limits set. */
export async function fixture(name: string, options: EngineOptions = {}): Promise<ModelConfig> {
  return ModelConfig.load(join(fixtureModels, name), options);
}

export function picture(width: number, height: number, value = 0): RawImage {
  return { width, height, channels: 3, data: new Uint8Array(width * height * 3).fill(value) };
}

export function shapes(values: Record<string, unknown>): Record<string, readonly number[]> {
  return Object.fromEntries(Object.entries(values).map(([name, t]) => [name, (t as Tensor).shape]));
}

/** Codes and texts of the warnings while `body` runs. */
export async function warningsOf(body: () => unknown): Promise<{ code: string; message: string }[]> {
  const seen: { code: string; message: string }[] = [];
  const spy = jest.spyOn(process, 'emitWarning').mockImplementation(((message: string, options: { code: string }) => {
    seen.push({ message, code: options.code });
  }) as never);
  try {
    await body();
  } finally {
    spy.mockRestore();
  }
  return seen;
}

/** The code of the error that `body` throws or rejects with. */
export async function codeOf(body: () => unknown): Promise<string | undefined> {
  try {
    await body();
  } catch (e) {
    return (e as { code?: string }).code ?? String(e);
  }
  return undefined;
}
