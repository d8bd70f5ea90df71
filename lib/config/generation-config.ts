import { OcelliError } from '../errors';
import { kindOf, type JsonObject } from './json-file';

/** generation_config.json: where an answer ends, and the sampling that its authors recommend. */
export interface GenerationConfig {
  eosTokenIds: readonly number[];
  bosTokenId?: number;
  /** Defaults of SamplingParams, where the file has them. */
  sampling: Readonly<{
    temperature?: number;
    topP?: number;
    topK?: number;
    minP?: number;
    repetitionPenalty?: number;
    maxTokens?: number;
  }>;
}

const samplingFields = {
  temperature: ['temperature', 0, 100],
  top_p: ['topP', 0, 1],
  top_k: ['topK', -1, 1e9],
  min_p: ['minP', 0, 1],
  repetition_penalty: ['repetitionPenalty', 0, 100],
  max_new_tokens: ['maxTokens', 1, 1e9],
} as const;

/** @param config where eos_token_id stands when generation_config.json is absent */
export function readGenerationConfig(
  raw: JsonObject | undefined,
  config: JsonObject,
  textConfig: JsonObject,
): GenerationConfig {
  const eos = raw?.eos_token_id ?? config.eos_token_id ?? textConfig.eos_token_id;
  const bos = raw?.bos_token_id ?? config.bos_token_id ?? textConfig.bos_token_id;
  const sampling: Record<string, number> = {};
  for (const [field, [name, min, max]] of Object.entries(samplingFields)) {
    const value = raw?.[field];
    if (value === undefined || value === null) continue;
    if (typeof value !== 'number' || !(value >= min && value <= max)) {
      throw generationError(field, `a number from ${min} to ${max}`, value);
    }
    // transformers' top_k 0 means all, as -1 does here.
    sampling[name] = name === 'topK' && value === 0 ? -1 : value;
  }
  return {
    eosTokenIds: ids(eos, 'eos_token_id'),
    ...(bos === undefined || bos === null ? {} : { bosTokenId: ids(bos, 'bos_token_id')[0] }),
    sampling,
  };
}

function ids(value: unknown, field: string): number[] {
  if (value === undefined || value === null) return [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.every((id): id is number => Number.isSafeInteger(id) && (id as number) >= 0)) return list;
  throw generationError(field, 'a token id or a list of token ids', value);
}

function generationError(field: string, expected: string, received: unknown): OcelliError {
  return new OcelliError(
    'ERR_CONFIG',
    `Expected ${expected} for ${field} in generation_config.json but received ${kindOf(received)}`,
    {
      details: { field },
    },
  );
}
