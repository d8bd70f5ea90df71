/** From decoded items to what the engine encodes: mapped tensors, index arrays, sizes and a content key, each made once and kept. */
import { createHash } from 'node:crypto';
import type { ModelConfig } from '../config/model-config';
import { OcelliError } from '../errors';
import { InputContext } from '../inputs/context';
import type { MappedItem, ModelHooksOfClass } from '../models/hooks';
import { isTensor, Tensor } from '../media/tensor';
import { MULTIMODAL_REGISTRY, type MultiModalData } from '../multimodal';
import type { NativeTensor } from '../native';
import type { TracedModel } from '../nn';
import { bindSymbols, encoderOf } from './item-size';
import { checkFinite, toNative } from './tensors';

/** An item ready for the engine. */
export interface EncodableItem extends MappedItem {
  /** SHA-256 of content and processor options. */
  hash: Uint8Array;
  /** Among the engine's programs; -1: `features` are given. */
  program: number;
  symbols: Record<string, number>;
  inputs: Record<string, NativeTensor>;
  features?: NativeTensor;
  rows: number;
  bytes: number;
}

/** Rows that an encoder program gives for these sizes. */
export type FeatureRows = (program: number, symbols: Record<string, number>) => number;

const defaultCacheBytes = 128 * 2 ** 20;

/** Maps items one by one; results are kept by content, least recently used dropped first. */
export class ItemMapper {
  queries = 0;
  hits = 0;
  bytes = 0;
  private readonly cache = new Map<string, { item: Promise<EncodableItem>; bytes: number }>();

  constructor(
    private readonly config: ModelConfig,
    private readonly traced: TracedModel,
    private readonly featureRows: FeatureRows,
    private readonly capacity = defaultCacheBytes,
  ) {}

  /**
   * Every item of a prompt, by modality in the order of its placeholders. `data` is loaded; when this settles nobody reads it any more,
   * even where one item failed early: the mapping of the others may be what another request waits for.
   */
  async map(data: MultiModalData, kwargs: Readonly<Record<string, unknown>> = {}): Promise<EncodableItem[]> {
    const present = Object.entries(data).filter(([, items]) => items !== undefined && items !== null);
    const mapped = present.flatMap(([modality, items]) =>
      MULTIMODAL_REGISTRY.getPlugin(modality)
        .split(items)
        .map((item) => this.one(modality, item, kwargs)),
    );
    await Promise.allSettled(mapped);
    return Promise.all(mapped);
  }

  private async one(
    modality: string,
    item: unknown,
    kwargs: Readonly<Record<string, unknown>>,
  ): Promise<EncodableItem> {
    const merged = { ...this.config.multimodalConfig?.mmProcessorKwargs, ...kwargs };
    const content = MULTIMODAL_REGISTRY.getPlugin(modality).hash(item)?.[0];
    if (!content) return this.encode(modality, item, kwargs, merged, undefined);
    const key = Buffer.from(contentKey(modality, content, merged)).toString('base64');
    this.queries++;
    const known = this.cache.get(key);
    if (known) {
      this.hits++;
      this.cache.delete(key);
      this.cache.set(key, known);
      return known.item;
    }
    const entry = { item: this.encode(modality, item, kwargs, merged, content), bytes: 0 };
    this.cache.set(key, entry);
    entry.item.then(
      ({ bytes }) => this.keep(key, entry, bytes),
      () => this.cache.delete(key),
    );
    return entry.item;
  }

  private keep(key: string, entry: { bytes: number }, bytes: number): void {
    if (this.cache.get(key) !== entry) return;
    entry.bytes = bytes;
    this.bytes += bytes;
    for (const [oldest, { bytes: size }] of this.cache) {
      if (this.bytes <= this.capacity) break;
      // One that is still being mapped has no size yet and is somebody's.
      if (size === 0) continue;
      this.cache.delete(oldest);
      this.bytes -= size;
    }
  }

  private async encode(
    modality: string,
    data: unknown,
    kwargs: Readonly<Record<string, unknown>>,
    merged: Readonly<Record<string, unknown>>,
    content: Uint8Array | undefined,
  ): Promise<EncodableItem> {
    const mapped = await MULTIMODAL_REGISTRY.getPlugin(modality).mapInput(this.config, data, {
      ...this.config.multimodalConfig?.mmProcessorKwargs,
      ...kwargs,
    });
    const { inputs: specs } = this.traced;
    let tensors: Record<string, Tensor> = {};
    for (const [name, value] of Object.entries(mapped))
      tensors[name] = singleItem(modality, name, value, specs[name]?.shape.length);
    const hooks = this.config.modelClass as unknown as ModelHooksOfClass;
    if (hooks.prepare) tensors = { ...tensors, ...hooks.prepare(new InputContext(this.config), { modality, tensors }) };
    const { encoder, program } = encoderOf(this.traced, modality, tensors);
    const symbols = bindSymbols(specs, encoder.form, tensors);
    const native = Object.fromEntries(
      encoder.form.map((name) => [name, toNative(name, tensors[name]!, specs[name]!.dtype)]),
    );
    const given = program < 0 ? native[encoder.form[0]!] : undefined;
    if (given) checkFinite(encoder.form[0]!, given);
    return {
      modality,
      tensors,
      hash: contentKey(modality, content ?? tensorsDigest(native), merged, encoder.form),
      program,
      symbols,
      inputs: given ? {} : native,
      ...(given ? { features: flatRows(given, this.traced.featureWidth) } : {}),
      rows: given ? rowsOf(given, this.traced.featureWidth) : this.featureRows(program, symbols),
      bytes: Object.values(tensors).reduce((sum, t) => sum + t.data.byteLength, 0),
    };
  }
}

/** A leading dimension that counts items is dropped where the declaration has one less. */
function singleItem(modality: string, name: string, value: unknown, declaredRank: number | undefined): Tensor {
  const tensor = isTensor(value) ? value : undefined;
  if (!tensor) {
    throw new OcelliError(
      'ERR_MM_INPUTS',
      `Expected a tensor for ${name} from the ${modality} mapper but received tensors of differing shapes`,
    );
  }
  const [count, ...rest] = tensor.shape;
  if (declaredRank === undefined || tensor.shape.length !== declaredRank + 1) return tensor;
  if (count !== 1) {
    throw new OcelliError(
      'ERR_MM_INPUTS',
      `Expected one item in ${name} from the ${modality} mapper but received ${String(count)}`,
      { hint: 'The engine maps items one by one; the first dimension counts them.' },
    );
  }
  return new Tensor(tensor.dtype, rest, tensor.data);
}

function rowsOf(features: NativeTensor, width: number): number {
  const elements = features.shape.reduce((a, b) => a * b, 1);
  if (features.shape.length >= 2 && features.shape.at(-1) === width && elements > 0) return elements / width;
  throw new OcelliError(
    'ERR_IMAGE_EMBEDS',
    `Expected embeddings [F, ${width}] with at least one row but received [${features.shape.join(', ')}]`,
  );
}

function flatRows(features: NativeTensor, width: number): NativeTensor {
  return { ...features, shape: [rowsOf(features, width), width] };
}

/** Domain, modality, content and options, each length-prefixed: no two different items share a key by concatenation. */
function contentKey(
  modality: string,
  content: Uint8Array,
  kwargs: Readonly<Record<string, unknown>>,
  form: readonly string[] = [],
): Uint8Array {
  const hash = createHash('sha256');
  const options = JSON.stringify(kwargs, (_key, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  for (const part of ['ocelli.item.1', modality, content, options, form.join(',')]) {
    const bytes = typeof part === 'string' ? Buffer.from(part) : part;
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(bytes.byteLength));
    hash.update(length).update(bytes);
  }
  return hash.digest();
}

function tensorsDigest(tensors: Readonly<Record<string, NativeTensor>>): Uint8Array {
  const hash = createHash('sha256');
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    hash.update(`${name}:${dtype}[${shape.join(',')}]:${data.byteLength};`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest();
}
