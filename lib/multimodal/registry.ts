import { OcelliError, nearestName } from '../errors';
import { classDecorator, type ClassDecorator_, type HookOptions, type Kwargs } from '../config/hooks';
import type { RegistryModelConfig } from '../config/model-class';
import { AudioPlugin } from './audio';
import { ImagePlugin } from './image';
import { MultiModalKwargs } from './kwargs';
import type { LoadContext, MultiModalPlugin } from './plugin';
import type { InputMapper, MaxTokens, MultiModalData } from './types';
import { VideoPlugin } from './video';

/**
 * Which tensors a model's forward takes for each modality, and how many tokens an item costs at most
 * (vLLM v0.6.3, vllm/multimodal/registry.py, MultiModalRegistry).
 */
export class MultiModalRegistry {
  private readonly plugins = new Map<string, MultiModalPlugin>();
  private readonly limits = new WeakMap<RegistryModelConfig, Readonly<Record<string, number>>>();

  constructor(plugins: readonly MultiModalPlugin[] = [new ImagePlugin(), new AudioPlugin(), new VideoPlugin()]) {
    for (const plugin of plugins) this.registerPlugin(plugin);
  }

  /** Adds a modality, or replaces its plugin (with a warning). */
  registerPlugin(plugin: MultiModalPlugin): void {
    const key = plugin.getDataKey();
    if (this.plugins.has(key)) {
      process.emitWarning(`The modality '${key}' already has a plugin; the new one replaces it`, {
        code: 'WARN_REREGISTERED',
        type: 'OcelliWarning',
      });
    }
    this.plugins.set(key, plugin);
  }

  /** The plugin of a modality; ERR_UNKNOWN_MODALITY lists the known ones. */
  getPlugin(modality: string): MultiModalPlugin {
    const plugin = this.plugins.get(modality);
    if (plugin) return plugin;
    const nearest = nearestName(modality, this.plugins.keys());
    throw new OcelliError(
      'ERR_UNKNOWN_MODALITY',
      `Expected one of ${[...this.plugins.keys()].join(', ')} for the modality but received '${modality}'`,
      {
        hint: nearest
          ? `Did you mean '${nearest}'?`
          : 'Add a modality with MULTIMODAL_REGISTRY.registerPlugin(plugin).',
      },
    );
  }

  get modalities(): string[] {
    return [...this.plugins.keys()];
  }

  /** No mapper: the modality's default. */
  registerInputMapper(modality: string, mapper?: InputMapper, options?: HookOptions): ClassDecorator_ {
    const plugin = this.getPlugin(modality);
    return classDecorator((modelClass) => plugin.registerInputMapper(modelClass, mapper, options));
  }

  registerImageInputMapper(mapper?: InputMapper, options?: HookOptions): ClassDecorator_ {
    return this.registerInputMapper('image', mapper, options);
  }

  registerVideoInputMapper(mapper?: InputMapper, options?: HookOptions): ClassDecorator_ {
    return this.registerInputMapper('video', mapper, options);
  }

  registerAudioInputMapper(mapper?: InputMapper, options?: HookOptions): ClassDecorator_ {
    return this.registerInputMapper('audio', mapper, options);
  }

  /** Tokens that one item may cost at most; no maximum: the modality's default. */
  registerMaxMultimodalTokens(modality: string, max?: MaxTokens, options?: HookOptions): ClassDecorator_ {
    const plugin = this.getPlugin(modality);
    return classDecorator((modelClass) => plugin.registerMaxMultimodalTokens(modelClass, max, options));
  }

  registerMaxImageTokens(max?: MaxTokens, options?: HookOptions): ClassDecorator_ {
    return this.registerMaxMultimodalTokens('image', max, options);
  }

  /** Maps a request's items of every modality. Needs initMmLimitsPerPrompt first, as profiling does. */
  createInputMapper(
    modelConfig: RegistryModelConfig,
  ): (data: MultiModalData, kwargs?: Readonly<Kwargs>) => Promise<MultiModalKwargs> {
    return (data, kwargs) => this.mapInput(modelConfig, data, kwargs);
  }

  /** @param kwargs mmProcessorKwargs of the request; they win over the engine's. */
  async mapInput(
    modelConfig: RegistryModelConfig,
    data: MultiModalData,
    kwargs: Readonly<Kwargs> = {},
  ): Promise<MultiModalKwargs> {
    const counts = this.checkLimits(modelConfig, data);
    const merged = { ...modelConfig.multimodalConfig?.mmProcessorKwargs, ...kwargs };
    const mapped: Record<string, MultiModalKwargs[string]> = {};
    for (const [modality, items] of present(data)) {
      if (counts[modality] === 0) continue;
      const plugin = this.getPlugin(modality);
      for (const [name, value] of Object.entries(await plugin.mapInput(modelConfig, items, merged))) {
        if (name in mapped) {
          throw new OcelliError(
            'ERR_MAPPER_CONFLICT',
            `Expected each keyword from one mapper but received '${name}' from the ${modality} mapper and another one`,
            {
              details: { modality, keyword: name },
            },
          );
        }
        mapped[name] = value;
      }
    }
    return new MultiModalKwargs(mapped);
  }

  /** Decodes and fetches a request's items; what mappers and input processors see. */
  async loadData(data: MultiModalData, context?: LoadContext): Promise<MultiModalData> {
    const entries = await Promise.all(
      present(data).map(
        async ([modality, items]) => [modality, await this.getPlugin(modality).load(items, context)] as const,
      ),
    );
    return Object.fromEntries(entries);
  }

  /** ERR_MM_LIMIT when a modality has more items than the engine allows per prompt. Returns the items per modality. */
  checkLimits(modelConfig: RegistryModelConfig, data: MultiModalData): Record<string, number> {
    const limits = this.getMmLimitsPerPrompt(modelConfig);
    const counts: Record<string, number> = {};
    for (const [modality, items] of present(data)) {
      const count = this.getPlugin(modality).countItems(items);
      const limit = limits[modality] ?? 0;
      if (count > limit) {
        throw new OcelliError(
          'ERR_MM_LIMIT',
          `Expected at most ${limit} ${modality} item${limit === 1 ? '' : 's'} in one prompt but received ${count}`,
          {
            hint:
              modelConfig.multimodalConfig === undefined
                ? 'This model takes text only.'
                : `Load the engine with limitMmPerPrompt: { ${modality}: ${count} }, or send fewer.`,
            details: { modality, limit, received: count },
          },
        );
      }
      counts[modality] = count;
    }
    return counts;
  }

  /** Tokens that a prompt's items of each modality may cost at most: limit x maximum per item. */
  getMaxTokensByModality(modelConfig: RegistryModelConfig): Record<string, number> {
    const limits = this.getMmLimitsPerPrompt(modelConfig);
    return Object.fromEntries(
      [...this.plugins].map(([key, plugin]) => [key, (limits[key] ?? 0) * plugin.getMaxMultimodalTokens(modelConfig)]),
    );
  }

  getMaxMultimodalTokens(modelConfig: RegistryModelConfig): number {
    return Object.values(this.getMaxTokensByModality(modelConfig)).reduce((a, b) => a + b, 0);
  }

  /** Takes the engine's limitMmPerPrompt: 1 by default, 0 for a model without multimodal inputs; unknown modalities warn. */
  initMmLimitsPerPrompt(modelConfig: RegistryModelConfig): void {
    if (this.limits.has(modelConfig)) {
      process.emitWarning(`The limits per prompt of ${modelConfig.model} were set before; they are replaced`, {
        code: 'WARN_MM_LIMITS',
        type: 'OcelliWarning',
      });
    }
    const { multimodalConfig } = modelConfig;
    if (multimodalConfig === undefined) {
      this.limits.set(modelConfig, Object.fromEntries(this.modalities.map((key) => [key, 0])));
      return;
    }
    const { limitPerPrompt } = multimodalConfig;
    for (const [key, limit] of Object.entries(limitPerPrompt)) {
      if (!this.plugins.has(key)) {
        process.emitWarning(`limitMmPerPrompt names the unknown modality '${key}', which is ignored`, {
          code: 'WARN_UNKNOWN_MODALITY',
          type: 'OcelliWarning',
        });
      } else if (!Number.isSafeInteger(limit) || limit < 0) {
        throw new OcelliError(
          'ERR_MM_LIMIT',
          `Expected a non-negative integer for limitMmPerPrompt.${key} but received ${String(limit)}`,
        );
      }
    }
    this.limits.set(modelConfig, Object.fromEntries(this.modalities.map((key) => [key, limitPerPrompt[key] ?? 1])));
  }

  getMmLimitsPerPrompt(modelConfig: RegistryModelConfig): Readonly<Record<string, number>> {
    const limits = this.limits.get(modelConfig);
    if (limits) return limits;
    throw new OcelliError(
      'ERR_MM_LIMITS_NOT_INITIALISED',
      `Expected initMmLimitsPerPrompt(modelConfig) to have run for ${modelConfig.model}`,
      {
        hint: 'LLM.load does it; call MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(modelConfig) where you use the registries alone.',
      },
    );
  }

  /** True when the class has a mapper of any modality. */
  supports(modelConfig: Pick<RegistryModelConfig, 'modelClass'>): boolean {
    return [...this.plugins.values()].some((plugin) => plugin.hasInputMapper(modelConfig.modelClass));
  }
}

function present(data: MultiModalData): [string, unknown][] {
  return Object.entries(data).filter(([, items]) => items !== undefined && items !== null);
}
