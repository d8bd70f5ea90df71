/** From a model's name to everything an engine runs on: configuration, programs, packed weights, tokenizer, memory plan. */
import { AsyncResource } from 'node:async_hooks';
import { textsOf } from '../config/families';
import { ModelConfig } from '../config/model-config';
import type { EngineOptions, LoadOptions, LoadProgress } from '../config/options';
import { OcelliError } from '../errors';
import '../models/registry';
import { INPUT_REGISTRY, MULTIMODAL_REGISTRY } from '../multimodal';
import { loadNative, nativeError, type ModelHandle, type NativeBinding } from '../native';
import { traceModel, type TracedModel } from '../nn';
import { Tokenizer } from '../tokenizer';
import { chooseDevice, type ComputeDevice } from './device';
import { programTexts } from './item-size';
import { ItemMapper, type FeatureRows } from './items';
import { planMemory, weightFormat, type MemoryPlan } from './memory-plan';
import { openWeights, type OpenedWeights } from './open-weights';

export interface PlannedModel {
  native: NativeBinding;
  device: ComputeDevice;
  config: ModelConfig;
  traced: TracedModel;
  programs: string[];
  plan: MemoryPlan;
  /** Of a GGUF file, whose types the plan depends on. */
  opened?: OpenedWeights;
}

export interface LoadedModel extends PlannedModel {
  handle: ModelHandle;
  tokenizer: Tokenizer | undefined;
}

/** Everything but weights and tokenizer: what estimateMemory tells. */
export async function planModel(model: string | URL, options: EngineOptions & LoadOptions = {}): Promise<PlannedModel> {
  const config = await ModelConfig.load(model, options);
  checkSupported(config);
  const native = loadNative();
  const device = await chooseDevice(native, config.options.device);
  MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
  const traced = tracedWithin(config);
  const programs = programTexts(traced);
  const maxTokens = config.multimodalConfig ? MULTIMODAL_REGISTRY.getMaxTokensByModality(config) : {};
  try {
    const items = await largestItems(native, config, traced, programs);
    const opened =
      config.source.format === 'gguf' && config.options.loadFormat !== 'dummy'
        ? await openWeights(native, config.source, traced, config.options)
        : undefined;
    const plan = planMemory(native, device, config, traced, programs, items, maxTokens, opened);
    return { native, device, config, traced, programs, plan, opened };
  } catch (e) {
    throw nativeError(e);
  }
}

/** The plan without loading: no weights are read. */
export async function estimateMemory(model: string | URL, options: EngineOptions = {}): Promise<MemoryPlan> {
  return (await planModel(model, options)).plan;
}

export async function loadModel(model: string | URL, options: EngineOptions & LoadOptions = {}): Promise<LoadedModel> {
  const { signal } = options;
  const planned = await planModel(model, options);
  const { native, device, config, traced, programs } = planned;
  signal?.throwIfAborted();
  const report = options.onProgress && AsyncResource.bind(options.onProgress);
  const progress = (phase: LoadProgress['phase'], loaded: number, total: number): void =>
    report?.({ phase, loaded, total });
  const tokenizer = config.options.skipTokenizerInit ? undefined : await Tokenizer.load(config.source);
  const dummy = config.options.loadFormat === 'dummy';
  try {
    progress('read', 0, 1);
    const opened = dummy
      ? undefined
      : (planned.opened ?? (await openWeights(native, config.source, traced, config.options)));
    progress('read', 1, 1);
    signal?.throwIfAborted();
    const handle = await native.createModel(
      opened?.checkpoint ?? null,
      {
        programs,
        names: {},
        ...opened?.places,
        ...weightFormat(config),
        backend: device.backend,
        threads: config.options.threads ?? 0,
        dummy,
        seed: config.options.seed ?? 0,
      },
      (loaded, total) => progress('pack', loaded, total),
      signal ? abortFlag(signal) : undefined,
    );
    return { ...planned, handle, tokenizer };
  } catch (e) {
    signal?.throwIfAborted();
    throw nativeError(e);
  }
}

/** The model without encoders of which no item may come: their weights are not loaded, and no memory is planned for them. */
function tracedWithin(config: ModelConfig): TracedModel {
  const traced = traceModel(config.modelClass as never, config.hfConfig, config.dtype);
  const limits = MULTIMODAL_REGISTRY.getMmLimitsPerPrompt(config);
  return { ...traced, encoders: traced.encoders.filter(({ modality }) => limits[modality] !== 0) };
}

/** How many rows an encoder gives: asked of the loaded program, and remembered by its sizes. */
export function featureRowsOf(native: NativeBinding, handle: ModelHandle, traced: TracedModel): FeatureRows {
  const known = new Map<string, number>();
  return (program, symbols) => {
    const key = `${program}:${Object.entries(symbols).join(';')}`;
    let rows = known.get(key);
    if (rows === undefined) {
      try {
        const shape = native.modelShape(handle, program, 'features', symbols);
        rows = shape.reduce((a, b) => a * b, 1) / traced.featureWidth;
      } catch (e) {
        throw nativeError(e);
      }
      if (known.size >= 1024) known.clear();
      known.set(key, rows);
    }
    return rows;
  };
}

/** Its items are what is looked at; a context of a billion tokens would be a list of as many zeros. */
const longestDummy = 2 ** 17;

/** One item per encoder, the largest: the first of the registered dummy data, mapped. */
async function largestItems(
  native: NativeBinding,
  config: ModelConfig,
  traced: TracedModel,
  programs: readonly string[],
): Promise<{ program: number; symbols: Record<string, number> }[]> {
  if (!config.multimodalConfig || programs.length < 2) return [];
  const counts = MULTIMODAL_REGISTRY.getMmLimitsPerPrompt(config);
  if (Object.values(counts).every((n) => n === 0)) return [];
  const seqLen = Math.min(config.maxModelLen, longestDummy);
  const dummy = await INPUT_REGISTRY.dummyDataForProfiling(config, seqLen, MULTIMODAL_REGISTRY);
  const rows: FeatureRows = (program, symbols) => {
    const shape = native.programShape(programs[program]!, 'features', symbols);
    return shape.reduce((a, b) => a * b, 1) / traced.featureWidth;
  };
  const mapper = new ItemMapper(config, traced, rows, 0);
  const found = [];
  for (const [modality, items] of Object.entries(dummy.multiModalData ?? {})) {
    const [first] = MULTIMODAL_REGISTRY.getPlugin(modality).split(items);
    if (first === undefined) continue;
    const [item] = await mapper.map({ [modality]: first }).catch((e: unknown) => {
      throw contradiction(config, e);
    });
    if (item && item.program > 0) found.push({ program: item.program, symbols: item.symbols });
  }
  return found;
}

/** What a family's own processor makes of its own dummy data fits, unless the checkpoint's two files disagree. */
function contradiction({ hfConfig }: ModelConfig, e: unknown): unknown {
  const known = textsOf(String(hfConfig.model_type)) !== undefined;
  const { code, message, details } = e as Partial<OcelliError>;
  if (!known || !code?.startsWith('ERR_') || details?.field !== undefined) return e;
  return new OcelliError(
    'ERR_CONFIG',
    `Expected preprocessor_config.json to give pictures that vision_config in config.json takes. ${message}`,
    {
      hint: "Both files are the checkpoint's: take them from one place.",
      details: { ...details, field: 'vision_config' },
      cause: e,
    },
  );
}

function abortFlag(signal: AbortSignal): { readonly aborted: boolean } {
  return {
    get aborted() {
      return signal.aborted;
    },
  };
}

/** What this build cannot do is said at load, never passed over. */
function checkSupported(config: ModelConfig): void {
  const { quantization = 'none', loadFormat, lora } = config.options;
  const refuse = (option: string, expected: string, received: unknown, hint: string): never => {
    throw new OcelliError('ERR_UNSUPPORTED', `Expected ${expected} for ${option} but received '${String(received)}'`, {
      hint,
      details: { option },
    });
  };
  if (quantization !== 'none' && quantization !== 'int8' && quantization !== 'int4')
    refuse('quantization', "'none', 'int8' or 'int4'", quantization, 'Choose one of these.');
  if (loadFormat === 'dummy' && lora !== undefined)
    refuse('lora', 'no adapter with random weights', typeof lora, "Use loadFormat: 'auto'.");
}
