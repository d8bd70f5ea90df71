import { OcelliError } from '../errors';
import type { InputContext } from '../inputs/context';
import { MultiModalPlugin } from './plugin';

/** Audio has no defaults: a model that takes it registers mapper and maximum. */
export class AudioPlugin extends MultiModalPlugin {
  getDataKey(): string {
    return 'audio';
  }

  defaultInputMapper(ctx: InputContext): never {
    throw new OcelliError(
      'ERR_NO_DEFAULT_MAPPER',
      `Expected ${ctx.modelConfig.modelClass.name} to register its own audio mapper: there is no default one`,
    );
  }

  defaultMaxMultimodalTokens(ctx: InputContext): never {
    throw new OcelliError(
      'ERR_NO_MAX_MM_TOKENS',
      `Expected ${ctx.modelConfig.modelClass.name} to register a maximum number of audio tokens: there is no default one`,
    );
  }
}
