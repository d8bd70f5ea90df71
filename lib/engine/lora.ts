/** LoRA adapters (Hu et al. 2021) as PEFT saves them: which matrices they add to which weights. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isObject, kindOf, readJsonFile, type JsonObject } from '../config/json-file';
import type { LoraAdapter } from '../config/options';
import { OcelliError } from '../errors';
import type { ModelOptions, NativeBinding } from '../native';
import { spellings, type TracedModel } from '../nn';

export type WeightDeltas = NonNullable<ModelOptions['deltas']>;

/** The two halves of an adapter's delta of one module. */
interface Halves {
  a?: string;
  b?: string;
}

/** @param shapes of the checkpoint's tensors, by the names that `places` leads to */
export async function openAdapters(
  native: NativeBinding,
  lora: string | readonly LoraAdapter[],
  traced: TracedModel,
  names: Readonly<Record<string, string>>,
  shapes: ReadonlyMap<string, readonly number[]>,
): Promise<WeightDeltas> {
  const deltas: WeightDeltas = [];
  const parts = partsOf(traced);
  const linear = linearParts(traced);
  for (const { path, scale = 1 } of typeof lora === 'string' ? [{ path: lora }] : lora) {
    const config = await readConfig(path);
    const file = join(path, 'adapter_model.safetensors');
    const found = await stat(file).catch(() => undefined);
    if (!found?.isFile())
      throw refuse(path, 'adapter_model.safetensors', 'a file', undefined, 'Save the adapter as safetensors.');
    const checkpoint = await native.openCheckpoint([file]);
    const tensors = new Map(native.checkpointTensors(checkpoint).map((t) => [t.name, t.shape]));
    const seen = new Set<string>();
    for (const [module, { a, b }] of halvesOf(tensors.keys(), path)) {
      if (a === undefined || b === undefined)
        throw refuse(path, `${module}.${a === undefined ? 'lora_A' : 'lora_B'}`, 'both halves', undefined);
      const part = parts.get(`${module}.weight`);
      if (part === undefined || seen.has(part)) throw unknownModule(path, module, parts.keys());
      seen.add(part);
      if (!linear.has(part))
        throw refuse(path, module, 'a linear layer whose weight nothing else reads', 'an embedding or a tied head');
      const { rank, factor } = scalingOf(config, module, path);
      const [rows, ...rest] = shapes.get(names[part]!) ?? [];
      const width = rest.reduce((x, y) => x * y, 1);
      expectShape(path, a, [rank, width], tensors.get(a)!);
      expectShape(path, b, [rows!, rank], tensors.get(b)!);
      deltas.push({ part, checkpoint, a, b, scale: scale * factor });
    }
  }
  return deltas;
}

function weightsOf(traced: TracedModel): { part: string; linear: boolean }[] {
  return [traced.text, ...traced.encoders.flatMap((e) => e.program ?? [])].flatMap(({ weights }) =>
    weights.flatMap(({ name, parts = [name], linear = false }) => parts.map((part) => ({ part, linear }))),
  );
}

/** Every spelling of a weight -> the parameter's own. */
function partsOf(traced: TracedModel): Map<string, string> {
  const parts = new Map<string, string>();
  for (const { part } of weightsOf(traced))
    for (const name of spellings(part, traced.weightNames)) if (!parts.has(name)) parts.set(name, part);
  return parts;
}

/** Those that products alone read: what is added to a tied head would change the embedding, too. */
function linearParts(traced: TracedModel): Set<string> {
  const weights = weightsOf(traced);
  const plain = new Set(weights.filter((w) => !w.linear).map((w) => w.part));
  return new Set(weights.filter((w) => w.linear && !plain.has(w.part)).map((w) => w.part));
}

const tensorName = /^base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight$/;

function halvesOf(names: Iterable<string>, path: string): Map<string, Halves> {
  const modules = new Map<string, Halves>();
  for (const name of names) {
    const [, module, half] = tensorName.exec(name) ?? [];
    if (module === undefined)
      throw refuse(path, name, 'tensors named base_model.model.<module>.lora_A.weight or .lora_B.weight', name);
    const halves = modules.get(module) ?? {};
    modules.set(module, { ...halves, [half === 'A' ? 'a' : 'b']: name });
  }
  if (modules.size === 0) throw refuse(path, 'adapter_model.safetensors', 'at least one adapted module', undefined);
  return modules;
}

/** What an adapter may have beside its two matrices, and none of which is computed: each has to be off. */
const unsupported = [
  'use_dora',
  'modules_to_save',
  'lora_bias',
  'fan_in_fan_out',
  'layer_replication',
  'trainable_token_indices',
  'target_parameters',
  'alora_invocation_tokens',
] as const;

async function readConfig(path: string): Promise<JsonObject> {
  const config = await readJsonFile(join(path, 'adapter_config.json'));
  if (config === undefined)
    throw refuse(path, 'adapter_config.json', 'a file', undefined, 'An adapter is a folder as PEFT saves it.');
  if (config.peft_type !== 'LORA') throw refuse(path, 'peft_type', "'LORA'", config.peft_type);
  if ((config.bias ?? 'none') !== 'none') throw refuse(path, 'bias', "'none'", config.bias);
  for (const field of unsupported) if (isOn(config[field])) throw refuse(path, field, 'none', config[field]);
  // These begin from other base weights than the checkpoint's.
  const { init_lora_weights: init } = config;
  if (typeof init === 'string' && /^(pissa|olora|corda|loftq)/i.test(init))
    throw refuse(path, 'init_lora_weights', 'an adapter of the unchanged base model', init);
  return config;
}

function isOn(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return isObject(value) ? Object.keys(value).length > 0 : Boolean(value);
}

/** alpha / r, or alpha / sqrt(r) where the adapter is rank-stabilised (Kalajdzievski 2023). */
function scalingOf(config: JsonObject, module: string, path: string): { rank: number; factor: number } {
  const rank = ofModule(config, 'rank_pattern', module, path) ?? config.r;
  const alpha = ofModule(config, 'alpha_pattern', module, path) ?? config.lora_alpha;
  if (!Number.isSafeInteger(rank) || (rank as number) < 1) throw refuse(path, 'r', 'an integer of at least 1', rank);
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) throw refuse(path, 'lora_alpha', 'a number', alpha);
  const r = rank as number;
  return { rank: r, factor: alpha / (config.use_rslora === true ? Math.sqrt(r) : r) };
}

/** Patterns are the ends of module names; the first that fits counts. */
function ofModule(config: JsonObject, field: string, module: string, path: string): unknown {
  const patterns = config[field] ?? {};
  if (!isObject(patterns)) throw refuse(path, field, 'an object', patterns);
  for (const [pattern, value] of Object.entries(patterns)) {
    // Regular expressions of a file that was downloaded are not run.
    if (!/^\^?[\w.]+$/.test(pattern)) throw refuse(path, field, 'names of modules', pattern);
    const name = pattern.replace('^', '');
    if (module === name || (name === pattern && module.endsWith(`.${name}`))) return value;
  }
  return undefined;
}

function expectShape(path: string, name: string, expected: readonly number[], received: readonly number[]): void {
  if (expected.length === received.length && expected.every((n, i) => n === received[i])) return;
  throw refuse(path, name, `the shape [${expected.join(', ')}]`, `[${received.join(', ')}]`);
}

function unknownModule(path: string, module: string, known: Iterable<string>): OcelliError {
  const tail = module.split('.').at(-1)!;
  const similar = [...known].filter((name) => name.endsWith(`.${tail}.weight`)).slice(0, 2);
  return refuse(
    path,
    module,
    'a module of the model, once',
    module,
    similar.length > 0
      ? `The model has ${similar.map((s) => s.replace(/\.weight$/, '')).join(', ')}: the adapter may be of another one.`
      : 'The adapter may be of another model.',
  );
}

function refuse(path: string, field: string, expected: string, received: unknown, hint?: string): OcelliError {
  const what = received === undefined ? 'nothing' : (kindOf(received) ?? typeof received);
  return new OcelliError('ERR_LORA', `Expected ${expected} for ${field} of the adapter ${path} but received ${what}`, {
    ...(hint === undefined ? {} : { hint }),
    details: { field, path },
  });
}
