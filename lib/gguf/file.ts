/** A GGUF file's header: typed answers about its metadata, and its tensors. The native reader has checked the file. */
import { open, readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { OcelliError } from '../errors';
import {
  loadNative,
  nativeError,
  type CheckpointHandle,
  type CheckpointTensorInfo,
  type MetadataValue,
} from '../native';

/** Whether a path is a file that begins as GGUF files do. */
export async function isGguf(path: string): Promise<boolean> {
  const file = await open(path).catch(() => undefined);
  if (!file) return false;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return bytesRead === 4 && buffer.toString('latin1') === 'GGUF';
  } catch {
    return false; // a folder
  } finally {
    await file.close();
  }
}

export class GgufFile {
  readonly tensors: ReadonlyMap<string, CheckpointTensorInfo>;
  private readonly metadata: ReadonlyMap<string, MetadataValue>;

  private constructor(
    readonly path: string,
    /** All shards; the first has the metadata. */
    readonly shards: string[],
    private readonly handle: CheckpointHandle,
  ) {
    const native = loadNative();
    this.metadata = new Map(native.checkpointMetadata(handle, 0));
    this.tensors = new Map(native.checkpointTensors(handle).map((t) => [t.name, t]));
  }

  static async open(path: string): Promise<GgufFile> {
    try {
      const shards = await shardsOf(path);
      return new GgufFile(path, shards, await loadNative().openCheckpoint(shards));
    } catch (e) {
      throw nativeError(e);
    }
  }

  has(key: string): boolean {
    return this.metadata.has(key);
  }

  /** An absent key is undefined, or the fallback; another type is ERR_CONFIG. */
  string(key: string): string | undefined {
    return this.typed(key, 'a string', (v): v is string => typeof v === 'string');
  }

  boolean(key: string): boolean | undefined {
    return this.typed(key, 'true or false', (v): v is boolean => typeof v === 'boolean');
  }

  number(key: string): number | undefined {
    const value = this.metadata.get(key);
    if (typeof value === 'bigint') return Number(value);
    return this.typed(key, 'a number', (v): v is number => typeof v === 'number');
  }

  strings(key: string): string[] | undefined {
    return this.typed(key, 'a list of strings', (v): v is string[] => listOf(v, 'string'));
  }

  numbers(key: string): number[] | undefined {
    const value = this.metadata.get(key);
    if (listOf(value, 'bigint')) return (value as bigint[]).map(Number);
    return this.typed(key, 'a list of numbers', (v): v is number[] => listOf(v, 'number'));
  }

  /** Undefined for what is no list of booleans too: some keys have a number or a list. */
  booleans(key: string): boolean[] | undefined {
    const value = this.metadata.get(key);
    return listOf(value, 'boolean') ? (value as boolean[]) : undefined;
  }

  /** The same, of a key that must be there. */
  required<T>(key: string, read: (key: string) => T | undefined): T {
    const value = read.call(this, key);
    if (value === undefined) throw this.error(key, 'a value', 'nothing');
    return value;
  }

  /** A tensor's values. */
  values(name: string): Float32Array {
    try {
      const { shape } = this.tensors.get(name)!;
      return loadNative().checkpointRows(this.handle, name, 0, shape.length < 2 ? 1 : shape[0]!);
    } catch (e) {
      throw nativeError(e);
    }
  }

  error(key: string, expected: string, received: string, hint?: string): OcelliError {
    return new OcelliError('ERR_CONFIG', `Expected ${expected} for ${key} in ${this.path} but received ${received}`, {
      hint,
      details: { field: key },
    });
  }

  private typed<T extends MetadataValue>(
    key: string,
    expected: string,
    is: (value: MetadataValue) => value is T,
  ): T | undefined {
    const value = this.metadata.get(key);
    if (value === undefined || is(value)) return value;
    throw this.error(key, expected, Array.isArray(value) ? 'a list' : typeof value);
  }
}

function listOf(value: MetadataValue | undefined, type: 'string' | 'number' | 'bigint' | 'boolean'): boolean {
  return Array.isArray(value) && value.every((v) => typeof v === type);
}

/** name-00001-of-00003.gguf stands for its neighbours too. */
async function shardsOf(path: string): Promise<string[]> {
  const [, stem, , count] = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/.exec(basename(path)) ?? [];
  if (stem === undefined) return [path];
  const folder = dirname(path);
  const present = new Set(await readdir(folder));
  return Array.from({ length: Number(count) }, (_, i) => {
    const name = `${stem}-${String(i + 1).padStart(5, '0')}-of-${count}.gguf`;
    if (present.has(name)) return join(folder, name);
    throw new OcelliError('ERR_CHECKPOINT_MISSING_SHARD', `Expected the shard ${name} beside ${path}`, {
      hint: 'The download may be incomplete.',
      details: { file: join(folder, name) },
    });
  });
}
