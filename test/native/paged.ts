/** Paged caches of keys and values for tests of attention. */
import type { NativeStep, NativeTensor } from '../../dist/native';
import { f32, i32, narrow, native, out, random, seeded } from './kernels';

export interface Sequence {
  rows: number;
  context: number;
  /** What each row sees; by default what is before it and itself. */
  hi?: number[];
}

export interface Setting {
  heads: number;
  kvHeads: number;
  dk: number;
  dv: number;
  blockSize: number;
  kv: 'f32' | 'bf16' | 'i8';
  attrs?: Record<string, number>;
}

export const plain: Setting = { heads: 4, kvHeads: 2, dk: 16, dv: 24, blockSize: 16, kv: 'f32' };
export const nan = NaN;

/** Rows as a cache of int8 has them, a scale in front of each row's quants, and what they say, in f32. A row of NaN has a scale of NaN. */
export function quantised(rows: NativeTensor): { tensor: NativeTensor; said: Float32Array } {
  const width = rows.shape.at(-1)!;
  const data = rows.data as Float32Array;
  const bytes = Buffer.alloc((data.length / width) * (width + 4));
  const said = new Float32Array(data.length);
  for (let row = 0; row * width < data.length; row++) {
    const part = data.subarray(row * width, (row + 1) * width);
    const scale = Math.fround(Math.max(...part.map(Math.abs)) / 127);
    bytes.writeFloatLE(scale, row * (width + 4));
    part.forEach((v, d) => {
      const q = scale > 0 ? Math.round(v / scale) : 0;
      bytes.writeInt8(q, row * (width + 4) + 4 + d);
      said[row * width + d] = q * scale;
    });
  }
  const tensor: NativeTensor = {
    dtype: 'i8',
    shape: [...rows.shape.slice(0, -1), width + 4],
    data: new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length),
  };
  return { tensor, said };
}

/** A cache whose blocks lie in a random order, filled from [kvHeads, positions, dim] per sequence; NaN wherever nothing was stored. */
export class Cache {
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly tables: number[][] = [];
  readonly blocks: number;
  readonly maxBlocks: number;

  constructor(
    readonly setting: Setting,
    readonly keys: Float32Array[],
    readonly values: Float32Array[],
    readonly contexts: number[],
  ) {
    const { kvHeads, dk, dv, blockSize } = setting;
    const counts = contexts.map((context) => Math.max(1, Math.ceil(context / blockSize)));
    this.maxBlocks = Math.max(...counts);
    this.blocks = counts.reduce((a, b) => a + b, 0) + 1;
    const free = Array.from({ length: this.blocks }, (_, i) => i);
    const next = random(99);
    this.k = new Float32Array(this.blocks * kvHeads * blockSize * dk).fill(nan);
    this.v = new Float32Array(this.blocks * kvHeads * blockSize * dv).fill(nan);
    contexts.forEach((context, s) => {
      const table = Array.from({ length: counts[s]! }, () => free.splice(Math.floor(next() * free.length), 1)[0]!);
      while (table.length < this.maxBlocks) table.push(0);
      this.tables.push(table);
      for (let p = 0; p < context; p++) {
        for (let h = 0; h < kvHeads; h++) {
          const row = (table[Math.floor(p / blockSize)]! * kvHeads + h) * blockSize + (p % blockSize);
          const from = p * kvHeads + h;
          this.k.set(keys[s]!.subarray(from * dk, (from + 1) * dk), row * dk);
          this.v.set(values[s]!.subarray(from * dv, (from + 1) * dv), row * dv);
        }
      }
    });
  }

  step(sequences: { s: number; rows: number; context: number; hi?: number[] }[]): NativeStep {
    const { kvHeads, dk, dv, blockSize, kv } = this.setting;
    const tensor = (data: Float32Array, width: number): NativeTensor => {
      const wide = f32([this.blocks, kvHeads, blockSize, width], data);
      if (kv === 'i8') return quantised(wide).tensor;
      return kv === 'bf16' ? narrow(wide, 'bf16') : wide;
    };
    const cuRows = [0];
    const hi: number[] = [];
    for (const { rows, context, hi: seen } of sequences) {
      cuRows.push(cuRows.at(-1)! + rows);
      for (let i = 0; i < rows; i++) hi.push(seen?.[i] ?? context - rows + i + 1);
    }
    return {
      k: tensor(this.k, dk),
      v: tensor(this.v, dv),
      sequences: sequences.length,
      maxBlocks: this.maxBlocks,
      cuRows: i32(cuRows),
      context: i32(sequences.map(({ context }) => context)),
      blockTable: i32(
        sequences.flatMap(({ s }) => this.tables[s]!),
        [sequences.length, this.maxBlocks],
      ),
      slot: i32(hi.map(() => -1)),
      hi: i32(hi),
    };
  }
}

export function fill(setting: Setting, contexts: number[], seed: number): Cache {
  const { kvHeads, dk, dv } = setting;
  const data = (context: number, width: number, of: number) =>
    seeded([context * kvHeads * width], of).data as Float32Array;
  return new Cache(
    setting,
    contexts.map((context, s) => data(context, dk, seed + 2 * s)),
    contexts.map((context, s) => data(context, dv, seed + 2 * s + 1)),
    contexts,
  );
}

export function paged(
  backend: string,
  setting: Setting,
  cache: Cache,
  q: NativeTensor,
  sequences: { s: number; rows: number; context: number; hi?: number[] }[],
  threads = 2,
): NativeTensor {
  const attrs = { layer: 0, scale: 1 / Math.sqrt(setting.dk), ...setting.attrs };
  const shape = [q.shape[0]!, setting.heads, setting.dv];
  return native.runOp(backend, 'attention_paged', [q], out(shape), attrs, { threads, step: cache.step(sequences) })[0]!;
}
