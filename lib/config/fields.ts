/** Checks of config.json, field by field: its type is the default's, and its name says what it counts and how far that may go. */
import { OcelliError } from '../errors';
import { kindOf, type JsonObject } from './json-file';

export function configError(field: string, expected: string, received: unknown, hint?: string): OcelliError {
  return new OcelliError(
    'ERR_CONFIG',
    `Expected ${expected} for ${field} in config.json but received ${received === undefined ? 'nothing' : kindOf(received)}`,
    { hint, details: { field } },
  );
}

/** Far beyond every model, and small enough that tracing one ends: [what a name ends in, at most]. */
const most: readonly (readonly [RegExp, number])[] = [
  [/(^depth|_layers|_interval|_pattern)$/, 1024],
  [/(_heads|head_dim)$/, 2 ** 14],
  [/merge_size$|^temporal_patch_size$|^scale_factor$/, 64],
  [/^(image|patch|window)_size$/, 2 ** 16],
  [/^(hidden_size|embed_dim|out_hidden_size)$/, 2 ** 20],
  [/(position_embeddings|sliding_window|_index|_id)$/, 1e9],
];
const mostOfOthers = 2 ** 24;

/** Patches along a picture's side. */
const mostPatches = 512;

/** Numbers that are not counts. */
const real = /(_eps|_theta|_freq|_ratio|_scalar|_softcapping|tokens_per_second|(?<!^scale)_factor)$/;
/** Counts that may be 0. */
const fromZero = /(_token_index|_token_id|^max_window_layers)$/;

/** Each field of `defaults` by its default's type. @param nullable where null says "none" */
export function checkFields(
  config: JsonObject,
  defaults: JsonObject,
  prefix: string,
  nullable: readonly string[] = [],
): void {
  for (const [field, fallback] of Object.entries(defaults)) {
    if (config[field] === null && nullable.includes(field)) continue;
    if (Array.isArray(fallback)) indices(config, field, prefix);
    else if (typeof fallback === 'boolean') boolean(config, field, prefix);
    else if (typeof fallback === 'string') text(config, field, prefix);
    else if (real.test(field)) positiveNumber(config, field, prefix);
    else if (fromZero.test(field)) integer(config, field, prefix, 0);
    else positiveInteger(config, field, prefix);
  }
}

function integer(config: JsonObject, field: string, prefix: string, least: number): void {
  const value = config[field];
  const limit = most.find(([name]) => name.test(field))?.[1] ?? mostOfOthers;
  if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= limit) return;
  throw configError(
    prefix + field,
    typeof value === 'number' && value > limit ? `at most ${limit}` : `${least > 0 ? 'a positive' : 'an'} integer`,
    value,
  );
}

export function positiveInteger(config: JsonObject, field: string, prefix: string): void {
  integer(config, field, prefix, 1);
}

/** Of a size that float32 has, and the inverse of. */
export function positiveNumber(config: JsonObject, field: string, prefix: string): void {
  const value = config[field];
  if (typeof value !== 'number' || !(value >= 1e-15 && value <= 1e15))
    throw configError(prefix + field, 'a positive number', value);
}

function indices(config: JsonObject, field: string, prefix: string): void {
  const value = config[field];
  if (!Array.isArray(value) || value.length > 1024 || !value.every((n) => Number.isSafeInteger(n) && n >= 0))
    throw configError(prefix + field, 'a list of numbers from 0', value);
}

export function text(config: JsonObject, field: string, prefix: string): void {
  if (typeof config[field] !== 'string') throw configError(prefix + field, 'a string', config[field]);
}

export function boolean(config: JsonObject, field: string, prefix: string): void {
  const value = config[field];
  if (value !== undefined && typeof value !== 'boolean') throw configError(prefix + field, 'true or false', value);
}

/** A list with an entry for each layer, where it is given. */
export function ofLayers(config: JsonObject, field: string, prefix: string, entry: 'string' | 'number'): void {
  const { [field]: value, num_hidden_layers: layers } = config;
  if (value === undefined) return;
  if (!Array.isArray(value) || value.length !== layers || !value.every((v) => typeof v === entry))
    throw configError(prefix + field, `a list of ${String(layers)}, one for each of num_hidden_layers,`, value);
}

/** A tower's picture in patches. */
export function checkPatches({ image_size: side, patch_size: patch }: JsonObject, prefix: string): void {
  if (typeof side !== 'number' || typeof patch !== 'number') return;
  if (patch > side) throw configError(`${prefix}patch_size`, `at most the image_size ${side}`, patch);
  if (side / patch > mostPatches)
    throw configError(`${prefix}patch_size`, `at most ${mostPatches} patches along the image_size ${side}`, patch);
}

/** Numbers of a scaling that are there; which of them a type needs, its own arithmetic says. */
export function checkScaling(scaling: JsonObject, name: string): void {
  for (const field of Object.keys(scaling)) {
    if (scaling[field] === null || scaling[field] === undefined) continue;
    if (/^(factor|\w+_freq_factor|beta_\w+|attention_factor|\w*max_position_embeddings)$/.test(field))
      positiveNumber(scaling, field, `${name}.`);
    else if (/^(short_factor|long_factor|factors)$/.test(field) && !numbers(scaling[field], 0))
      throw configError(`${name}.${field}`, 'a list of positive numbers', scaling[field]);
    else if (field === 'mrope_section' && !numbers(scaling[field], 1))
      throw configError(`${name}.${field}`, 'a list of positive integers', scaling[field]);
  }
}

function numbers(value: unknown, whole: 0 | 1): boolean {
  return (
    Array.isArray(value) &&
    value.length <= 2 ** 14 &&
    value.every((n) => typeof n === 'number' && n >= 1e-15 && n <= 1e15 && (whole === 0 || Number.isSafeInteger(n)))
  );
}
