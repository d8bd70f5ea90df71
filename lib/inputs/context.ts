import { OcelliError } from '../errors';
import type { RegistryModelConfig } from '../config/model-class';

/** What hooks know of the model: its configuration, as in vLLM's InputContext. */
export class InputContext<C extends RegistryModelConfig = RegistryModelConfig> {
  constructor(readonly modelConfig: C) {}

  /** The checkpoint's config.json; with `modelType`, ERR_HF_CONFIG when it is another family's. */
  getHfConfig<T = Record<string, unknown>>(modelType?: string): T {
    const config = this.modelConfig.hfConfig;
    if (modelType !== undefined && config.model_type !== modelType) {
      throw new OcelliError(
        'ERR_HF_CONFIG',
        `Expected model_type '${modelType}' in config.json but received '${String(config.model_type)}'`,
        {
          hint: 'Register the hooks on the class of this architecture.',
          details: { field: 'model_type' },
        },
      );
    }
    return config as T;
  }
}
