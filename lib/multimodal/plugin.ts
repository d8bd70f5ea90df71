import { OcelliError } from '../errors';
import { selectKwargs, warnOnce, type HookOptions, type Kwargs } from '../config/hooks';
import type { ModelClass, RegistryModelConfig } from '../config/model-class';
import { InputContext } from '../inputs/context';
import type { PictureHolds } from '../media/decode-cache';
import { MultiModalKwargs } from './kwargs';
import type { Awaitable, InputMapper, MaxTokens } from './types';

interface Hook<F> {
  hook: F;
  options: HookOptions | undefined;
}

/** Hooks by model class; a subclass has its parent's unless it registers its own. */
export class ClassHooks<F> {
  private readonly entries = new Map<ModelClass, Hook<F>>();

  put(modelClass: ModelClass, hook: F, options: HookOptions | undefined, what: string): void {
    if (this.entries.has(modelClass)) {
      process.emitWarning(`${modelClass.name} already has ${what}; the new one replaces it`, {
        code: 'WARN_REREGISTERED',
        type: 'OcelliWarning',
      });
    }
    this.entries.set(modelClass, { hook, options });
  }

  get(modelClass: ModelClass): Hook<F> | undefined {
    for (let c: unknown = modelClass; typeof c === 'function'; c = Object.getPrototypeOf(c)) {
      const entry = this.entries.get(c as ModelClass);
      if (entry) return entry;
    }
    return undefined;
  }
}

/** What loading an item may do: the policy of the engine that asks. */
export interface LoadContext {
  allowedLocalMediaPath?: string;
  allowedMediaDomains?: readonly string[];
  /** False for message content: paths need allowedLocalMediaPath there. */
  trusted?: boolean;
  signal?: AbortSignal;
  /** Decoded pictures are shared and stay until these are let go; without, they are the caller's own. */
  holds?: PictureHolds;
}

/**
 * One modality: how its items are counted, loaded, hashed and mapped. Subclass it and pass an instance to
 * `MULTIMODAL_REGISTRY.registerPlugin` for a modality of your own (vLLM v0.6.3, vllm/multimodal/base.py, MultiModalPlugin).
 */
export abstract class MultiModalPlugin {
  private readonly mappers = new ClassHooks<InputMapper>();
  private readonly maxTokens = new ClassHooks<MaxTokens>();
  private readonly warned = new Set<string>();

  /** The key in multiModalData: 'image'. */
  abstract getDataKey(): string;
  /** Used where a model registers no mapper of its own. */
  abstract defaultInputMapper(
    ctx: InputContext,
    data: unknown,
    kwargs: Kwargs,
  ): Awaitable<MultiModalKwargs | Record<string, unknown>>;
  abstract defaultMaxMultimodalTokens(ctx: InputContext): number;

  /** The items of one request's data: a list's elements, else the data itself. */
  items(data: unknown): readonly unknown[] {
    return Array.isArray(data) ? (data as unknown[]) : [data];
  }

  countItems(data: unknown): number {
    return this.items(data).length;
  }

  /** One entry per item, each as the mapper takes it alone: a list of one, unless the plugin says otherwise. */
  split(data: unknown): unknown[] {
    return this.items(data).map((item) => [item]);
  }

  /** Files, URLs and bytes become what mappers take; the default takes data as it is. */
  load(data: unknown, _context?: LoadContext): Awaitable<unknown> {
    return data;
  }

  /** A content hash per item (SHA-256); undefined: items are hashed by their mapped tensors. */
  hash(_data: unknown): Uint8Array[] | undefined {
    return undefined;
  }

  registerInputMapper(modelClass: ModelClass, mapper?: InputMapper, options?: HookOptions): void {
    if (mapper !== undefined && typeof mapper !== 'function') {
      throw new OcelliError(
        'ERR_REGISTRY',
        `Expected a function for the ${this.getDataKey()} input mapper but received ${typeof mapper}`,
      );
    }
    const chosen = mapper ?? ((ctx, data, kwargs) => this.defaultInputMapper(ctx, data, kwargs));
    if (mapper === undefined) this.defaultMapped.add(chosen);
    this.mappers.put(modelClass, chosen, options, `an input mapper for ${this.getDataKey()}`);
  }

  hasInputMapper(modelClass: ModelClass): boolean {
    return this.mappers.get(modelClass) !== undefined;
  }

  /** kwargs: the engine's and the request's, merged. */
  async mapInput(modelConfig: RegistryModelConfig, data: unknown, kwargs: Readonly<Kwargs>): Promise<MultiModalKwargs> {
    const entry = this.mappers.get(modelConfig.modelClass);
    if (!entry) {
      throw new OcelliError(
        'ERR_NO_INPUT_MAPPER',
        `Expected an input mapper for ${this.getDataKey()} on ${modelConfig.modelClass.name} but none is registered`,
        { hint: `Decorate the class with MULTIMODAL_REGISTRY.registerInputMapper('${this.getDataKey()}').` },
      );
    }
    // The default mapper hands kwargs on to the image processor, which knows its own.
    const selected =
      this.defaultMapped.has(entry.hook) && entry.options === undefined
        ? { ...kwargs }
        : this.select(entry.options, kwargs, 'input mapper');
    const mapped = await entry.hook(new InputContext(modelConfig), data, selected);
    return mapped instanceof MultiModalKwargs ? mapped : new MultiModalKwargs(mapped);
  }

  registerMaxMultimodalTokens(modelClass: ModelClass, max?: MaxTokens, options?: HookOptions): void {
    if (typeof max === 'number') this.checkMax(max, modelClass);
    else if (max !== undefined && typeof max !== 'function') {
      throw new OcelliError(
        'ERR_MAX_MM_TOKENS',
        `Expected a number or a function for the maximum number of ${this.getDataKey()} tokens but received ${typeof max}`,
      );
    }
    this.maxTokens.put(
      modelClass,
      max ?? ((ctx) => this.defaultMaxMultimodalTokens(ctx)),
      options,
      `a maximum number of ${this.getDataKey()} tokens`,
    );
  }

  /** Tokens that one item may cost at most; 0 for a model without a mapper of this modality. */
  getMaxMultimodalTokens(modelConfig: RegistryModelConfig): number {
    const { modelClass } = modelConfig;
    if (!this.hasInputMapper(modelClass)) return 0;
    const entry = this.maxTokens.get(modelClass);
    if (!entry) {
      throw new OcelliError(
        'ERR_NO_MAX_MM_TOKENS',
        `Expected a maximum number of ${this.getDataKey()} tokens for ${modelClass.name} but none is registered`,
        {
          hint: `Decorate the class with MULTIMODAL_REGISTRY.registerMaxMultimodalTokens('${this.getDataKey()}', n).`,
        },
      );
    }
    const init = modelConfig.multimodalConfig?.mmProcessorKwargs ?? {};
    const max =
      typeof entry.hook === 'number'
        ? entry.hook
        : entry.hook(
            new InputContext(modelConfig),
            this.select(entry.options, init, 'maximum number of tokens', false),
          );
    return this.checkMax(max, modelClass);
  }

  /** Hooks that are the plugin's own default. */
  private readonly defaultMapped = new WeakSet<InputMapper>();

  private select(options: HookOptions | undefined, kwargs: Readonly<Kwargs>, what: string, warn = true): Kwargs {
    return selectKwargs(options, kwargs, (name, nearest) => {
      if (!warn) return;
      warnOnce(
        this.warned,
        'WARN_MM_PROCESSOR_KWARGS',
        `The ${what} for ${this.getDataKey()} does not take mmProcessorKwargs.${name}, which is ignored` +
          (nearest ? `; did you mean ${nearest}?` : ''),
      );
    });
  }

  private checkMax(max: number, modelClass: ModelClass): number {
    if (Number.isSafeInteger(max) && max >= 1) return max;
    throw new OcelliError(
      'ERR_MAX_MM_TOKENS',
      `Expected an integer of at least 1 for the maximum number of ${this.getDataKey()} tokens of ${modelClass.name} but received ${String(max)}`,
    );
  }
}
