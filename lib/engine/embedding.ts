/** What embed() takes, and what becomes of a pooled row. */
import type { Check } from '../config/options';
import { readPooling, type PoolingConfig } from '../config/pooling';
import type { ModelSource } from '../config/model-source';
import type { EmbedOptions } from './types';

export const embedChecks: Record<'pooling' | 'normalize', Check> = {
  pooling: { expected: "'last', 'mean' or 'cls'", test: (v) => v === 'last' || v === 'mean' || v === 'cls' },
  normalize: { expected: 'true or false', test: (v) => typeof v === 'boolean' },
};

/** Without files that say more: the last token has seen all of the prompt, and vectors are compared by their directions. */
const defaults: PoolingConfig = { pooling: 'last', normalize: true };

export async function resolvePooling(options: EmbedOptions, source: ModelSource): Promise<PoolingConfig> {
  const { pooling, normalize } = options;
  if (pooling !== undefined && normalize !== undefined) return { pooling, normalize };
  const own = (await readPooling(source)) ?? defaults;
  return { pooling: pooling ?? own.pooling, normalize: normalize ?? own.normalize };
}

/** Rounded to float32 once, at the end. A row of zeros has no direction and stays. */
export function embeddingOf(pooled: Float64Array, normalize: boolean): Float32Array {
  const length = normalize ? Math.sqrt(pooled.reduce((sum, x) => sum + x * x, 0)) : 1;
  return Float32Array.from(pooled, (x) => (length === 0 ? 0 : x / length));
}
