import { OcelliError } from '../errors';
import {
  classDecorator,
  selectKwargs,
  warnOnce,
  type ClassDecorator_,
  type HookOptions,
  type Kwargs,
} from '../config/hooks';
import type { ModelClass, RegistryModelConfig } from '../config/model-class';
import { ClassHooks } from '../multimodal/plugin';
import type { MultiModalData } from '../multimodal/types';
import type { MultiModalRegistry } from '../multimodal/registry';
import type { Segment } from '../tokenizer';
import { InputContext } from './context';

type Awaitable<T> = T | Promise<T>;

/** start, length of each. */
export type Spans = readonly (readonly [start: number, length: number])[];

/** A prompt on its way to the engine: ids with one placeholder per item before an input processor, expanded after it. */
export interface LLMInputs {
  promptTokenIds: readonly number[];
  /** The text the ids came from, where there was one. */
  prompt?: string;
  /** Items, decoded: pictures are RawImage or Tensor. */
  multiModalData?: MultiModalData;
  mmProcessorKwargs?: Readonly<Kwargs>;
  /**
   * start, length pairs of ids that attend both ways and no chunk border may cut; a processor whose prompt is tokenized from parts says
   * how they follow from the ids.
   */
  atomicSpans?: Spans | ((promptTokenIds: readonly number[]) => Spans);
  /**
   * The prompt in parts, where there was text: special tokens as ids, the text between them. A processor that hands back other parts than
   * it was given has the prompt tokenized from them (families that expand text before it is tokenized).
   */
  segments?: readonly Segment[];
}

/** What profiling feeds: ids of the longest prompt with the most expensive items. */
export interface DummyData {
  promptTokenIds: readonly number[];
  multiModalData?: MultiModalData;
}

export type DummyDataFactory = (
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
  kwargs: Kwargs,
) => Awaitable<DummyData>;

export type InputProcessor = (ctx: InputContext, inputs: LLMInputs, kwargs: Kwargs) => Awaitable<LLMInputs>;

/** Dummy data and input processors by model class (vLLM v0.6.3, vllm/inputs/registry.py, InputRegistry). */
export class InputRegistry {
  private readonly dummyFactories = new ClassHooks<DummyDataFactory>();
  private readonly dummyEncoderFactories = new ClassHooks<DummyDataFactory>();
  private readonly processors = new ClassHooks<InputProcessor>();
  private readonly warned = new Set<string>();

  /** The factory gives at least seqLen ids and at least mmCounts items; input processors are not applied to them. */
  registerDummyData(factory: DummyDataFactory, options?: HookOptions): ClassDecorator_ {
    checkFunction(factory, 'dummy data factory');
    return classDecorator((modelClass) =>
      this.dummyFactories.put(modelClass, factory, options, 'a dummy data factory'),
    );
  }

  registerDummyEncoderData(factory: DummyDataFactory, options?: HookOptions): ClassDecorator_ {
    checkFunction(factory, 'dummy encoder data factory');
    return classDecorator((modelClass) =>
      this.dummyEncoderFactories.put(modelClass, factory, options, 'a dummy encoder data factory'),
    );
  }

  registerInputProcessor(processor: InputProcessor, options?: HookOptions): ClassDecorator_ {
    checkFunction(processor, 'input processor');
    return classDecorator((modelClass) => this.processors.put(modelClass, processor, options, 'an input processor'));
  }

  /** @param isEncoderData for encoder-decoder models: a shortfall of ids only warns there. */
  async dummyDataForProfiling(
    modelConfig: RegistryModelConfig,
    seqLen: number,
    mmRegistry: MultiModalRegistry,
    isEncoderData = false,
  ): Promise<DummyData> {
    const counts = countsProxy({ ...mmRegistry.getMmLimitsPerPrompt(modelConfig) });
    const entry = this.dummyFactory(modelConfig.modelClass, isEncoderData);
    const init = modelConfig.multimodalConfig?.mmProcessorKwargs ?? {};
    const data: DummyData = entry
      ? await entry.hook(
          new InputContext(modelConfig),
          seqLen,
          counts,
          this.select(entry.options, init, 'dummy data factory'),
        )
      : { promptTokenIds: new Array<number>(seqLen).fill(0) };
    this.checkDummy(data, seqLen, counts, mmRegistry, modelConfig, isEncoderData);
    return data;
  }

  /** The registered input processor on one prompt; the default returns the same object. */
  async processInput(modelConfig: RegistryModelConfig, inputs: LLMInputs): Promise<LLMInputs> {
    const entry = this.processors.get(modelConfig.modelClass);
    if (!entry) return inputs;
    const kwargs = { ...modelConfig.multimodalConfig?.mmProcessorKwargs, ...inputs.mmProcessorKwargs };
    return entry.hook(new InputContext(modelConfig), inputs, this.select(entry.options, kwargs, 'input processor'));
  }

  createInputProcessor(modelConfig: RegistryModelConfig): (inputs: LLMInputs) => Promise<LLMInputs> {
    return (inputs) => this.processInput(modelConfig, inputs);
  }

  hasInputProcessor(modelClass: ModelClass): boolean {
    return this.processors.get(modelClass) !== undefined;
  }

  private dummyFactory(modelClass: ModelClass, encoder: boolean): ReturnType<ClassHooks<DummyDataFactory>['get']> {
    const own = (encoder ? this.dummyEncoderFactories : this.dummyFactories).get(modelClass);
    if (own || !encoder) return own;
    warnOnce(
      this.warned,
      'WARN_DUMMY_DATA',
      `${modelClass.name} has no factory of dummy encoder data; the one of its dummy data stands in`,
    );
    return this.dummyFactories.get(modelClass);
  }

  private checkDummy(
    data: DummyData,
    seqLen: number,
    counts: Readonly<Record<string, number>>,
    mmRegistry: MultiModalRegistry,
    modelConfig: RegistryModelConfig,
    isEncoderData: boolean,
  ): void {
    const name = modelConfig.modelClass.name;
    if (data.promptTokenIds.length < seqLen) {
      const message = `Expected at least ${seqLen} dummy tokens from the factory of ${name} but received ${data.promptTokenIds.length}`;
      if (!isEncoderData) throw new OcelliError('ERR_DUMMY_DATA', message, { hint: 'Pad the ids up to seqLen.' });
      warnOnce(this.warned, 'WARN_DUMMY_DATA', message);
    }
    for (const [modality, items] of Object.entries(data.multiModalData ?? {})) {
      const count = mmRegistry.getPlugin(modality).countItems(items);
      const expected = counts[modality] ?? 0;
      if (count < expected) {
        throw new OcelliError(
          'ERR_DUMMY_DATA',
          `Expected at least ${expected} dummy ${modality} items from the factory of ${name} but received ${count}`,
        );
      }
    }
  }

  private select(options: HookOptions | undefined, kwargs: Readonly<Kwargs>, what: string): Kwargs {
    return selectKwargs(options, kwargs, (key, nearest) => {
      // Another hook of the same model may take it; only a kwarg with a likely misspelling is worth a word here.
      if (nearest)
        warnOnce(
          this.warned,
          'WARN_MM_PROCESSOR_KWARGS',
          `The ${what} does not take mmProcessorKwargs.${key}; did you mean ${nearest}?`,
        );
    });
  }
}

/** mmCounts: asking for a modality that no plugin has is ERR_UNKNOWN_MODALITY, as in v0.6.3. */
function countsProxy(counts: Record<string, number>): Readonly<Record<string, number>> {
  return new Proxy(Object.freeze(counts), {
    get(target, key, receiver): unknown {
      if (typeof key === 'string' && !(key in target) && key !== 'toJSON' && key !== 'then') {
        throw new OcelliError(
          'ERR_UNKNOWN_MODALITY',
          `Expected one of ${Object.keys(target).join(', ')} in mmCounts but '${key}' was asked for`,
        );
      }
      return Reflect.get(target, key, receiver);
    },
  });
}

function checkFunction(hook: unknown, what: string): void {
  if (typeof hook !== 'function')
    throw new OcelliError('ERR_REGISTRY', `Expected a function for the ${what} but received ${typeof hook}`);
}
