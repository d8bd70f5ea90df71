/** How a checkpoint makes one vector of a text, where it says so: the modules.json of sentence-transformers. */
import { OcelliError } from '../errors';
import { isObject, type JsonObject } from './json-file';
import type { ModelSource } from './model-source';

export type PoolingMode = 'last' | 'mean' | 'cls';

export interface PoolingConfig {
  pooling: PoolingMode;
  normalize: boolean;
}

const modes: Record<string, PoolingMode> = {
  pooling_mode_cls_token: 'cls',
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_lasttoken: 'last',
};

/** Undefined for a checkpoint without such files. Throws ERR_NO_EMBEDDINGS for steps that are not computed. */
export async function readPooling(source: ModelSource): Promise<PoolingConfig | undefined> {
  const text = await source.text('modules.json');
  if (text === undefined) return undefined;
  let modules: unknown;
  try {
    modules = JSON.parse(text);
  } catch (cause) {
    throw new OcelliError('ERR_CONFIG_FILE', `Expected JSON in modules.json but received ${(cause as Error).message}`, {
      cause,
    });
  }
  if (!Array.isArray(modules))
    throw new OcelliError('ERR_CONFIG_FILE', 'Expected a list of modules in modules.json but received something else');
  const found: PoolingConfig = { pooling: 'last', normalize: false };
  for (const module of modules as unknown[]) {
    const { type, path } = (isObject(module) ? module : {}) as { type?: unknown; path?: unknown };
    switch (String(type).split('.').at(-1)) {
      case 'Transformer':
        break;
      case 'Pooling':
        found.pooling = modeOf((await source.json(`${String(path)}/config.json`)) ?? {});
        break;
      case 'Normalize':
        found.normalize = true;
        break;
      default:
        throw unsupported('Transformer, Pooling and Normalize', 'the modules of modules.json', String(type));
    }
  }
  return found;
}

function modeOf(config: JsonObject): PoolingMode {
  const on = Object.keys(config).filter((name) => name.startsWith('pooling_mode_') && config[name] === true);
  const mode = on.length === 1 ? modes[on[0]!] : undefined;
  if (mode) return mode;
  throw unsupported(`one of ${Object.keys(modes).join(', ')}`, 'the Pooling module', on.join(', ') || 'none');
}

function unsupported(expected: string, place: string, received: string): OcelliError {
  return new OcelliError('ERR_NO_EMBEDDINGS', `Expected ${expected} for ${place} but received ${received}`, {
    hint: 'Give pooling and normalize to embed(): then the files are not asked.',
  });
}
