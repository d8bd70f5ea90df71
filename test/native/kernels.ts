/** What the tests of kernels share: seeded operands with outliers, bits, and errors against the reference. */
import { loadNative, type NativeDType, type NativeTensor } from '../../dist/native';

export const native = loadNative();
/** Every instruction set that this machine runs. */
export const isas = native.info().isas;
/** Whether the set multiplies bf16 by bf16: then float32 operands are rounded, once. */
export const multipliesBf16 = (isa: string): boolean => isa === 'avx512' || isa === 'amx';

/** mulberry32: the same numbers everywhere. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Roughly normal numbers; one in 97 is 20 times as large, as activations of language models are. */
export function values(count: number, seed: number, size = 1): Float32Array {
  const next = random(seed);
  const data = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    data[i] = (next() + next() + next() - 1.5) * 2 * size * (next() < 1 / 97 ? 20 : 1);
  }
  return data;
}

export const f32 = (shape: number[], data: Float32Array): NativeTensor => ({ dtype: 'f32', shape, data });
export const i32 = (data: ArrayLike<number>, shape = [data.length]): NativeTensor => ({
  dtype: 'i32',
  shape,
  data: Int32Array.from(data),
});
export const seeded = (shape: number[], seed: number, size = 1): NativeTensor =>
  f32(
    shape,
    values(
      shape.reduce((a, b) => a * b, 1),
      seed,
      size,
    ),
  );
export const out = (shape: number[], dtype: NativeDType = 'f32') => [{ dtype, shape }];

const wide = new Float32Array(1);
const wideBits = new Uint32Array(wide.buffer);

/** The nearest bf16 (ties to even), as a float. */
export function toBf16(value: number): number {
  wide[0] = value;
  wideBits[0] = ((wideBits[0]! + 0x7fff + ((wideBits[0]! >>> 16) & 1)) & 0xffff0000) >>> 0;
  return wide[0];
}

/** The tensor in bf16 or f16 (f16 of moderate numbers only). */
export function narrow(tensor: NativeTensor, dtype: 'bf16' | 'f16'): NativeTensor {
  const from = tensor.data as Float32Array;
  const data = new Uint16Array(from.length);
  for (let i = 0; i < from.length; i++) {
    if (dtype === 'bf16') {
      toBf16(from[i]!);
      data[i] = wideBits[0]! >>> 16;
      continue;
    }
    const magnitude = Math.abs(from[i]!);
    const exponent = Math.max(Math.floor(Math.log2(magnitude || 1)), -14);
    const fraction = Math.round((magnitude / 2 ** exponent) * 1024);
    data[i] = (from[i]! < 0 ? 0x8000 : 0) + (fraction < 1024 ? fraction : (exponent + 14) * 1024 + fraction);
  }
  return { dtype, shape: tensor.shape, data };
}

export function bits(tensor: NativeTensor): Uint32Array {
  const data = tensor.data as Float32Array;
  return new Uint32Array(data.buffer, data.byteOffset, data.length);
}

/** Fails with the first place where two results differ in any bit. */
export function expectSameBits(found: NativeTensor, expected: NativeTensor, what: string): void {
  expectSameRows(found, 0, expected, 0, bits(expected).length, what);
}

/** `count` elements of `found` from `at` on are those of `expected` from `from` on, bit by bit. */
export function expectSameRows(
  found: NativeTensor,
  at: number,
  expected: NativeTensor,
  from: number,
  count: number,
  what: string,
): void {
  const a = bits(found).subarray(at, at + count);
  const b = bits(expected).subarray(from, from + count);
  let where = 0;
  while (where < a.length && a[where] === b[where]) where++;
  if (a.length === b.length && where === a.length) return;
  const pair = `${(found.data as Float32Array)[at + where]} and ${(expected.data as Float32Array)[from + where]}`;
  throw new Error(`${what}: bits differ at ${where}: ${pair}`);
}

/** Each element within `bound(index)` of the reference; fails with the worst one. NaN is never near. */
export function expectNear(
  found: NativeTensor,
  expected: NativeTensor,
  bound: (index: number) => number,
  what: string,
): void {
  const a = found.data as Float32Array;
  const b = expected.data as Float32Array;
  let worst = 1;
  let where = -1;
  for (let i = 0; i < b.length; i++) {
    const error = Math.abs(a[i]! - b[i]!) / bound(i);
    if (!(error <= worst)) {
      worst = error;
      where = i;
    }
  }
  if (a.length === b.length && where < 0) return;
  throw new Error(`${what}: worst at ${where}: ${a[where]} for ${b[where]}, ${worst} times the bound`);
}

/** 2^-24: half of what 1 and the next f32 differ by. */
export const eps = 2 ** -24;

/** A gate has the bits of gated_act behind the product: `multiply(n, k)` is linear of the first m rows with weights [n, k]. */
export function expectGates(
  isa: string,
  counts: readonly number[],
  multiply: (n: number, k: number) => (m: number, options: { gate?: string; threads?: number }) => NativeTensor,
): void {
  // Halves of 35 end within a panel, those of 96 and 512 do not.
  for (const [n, k] of [
    [70, 37],
    [192, 130],
    [1024, 64],
  ] as const) {
    const product = multiply(n, k);
    for (const m of counts) {
      const apart = native.runOp(isa, 'gated_act', [product(m, {})], out([m, n / 2]), { kind: 'silu' })[0]!;
      for (const threads of [1, 2]) {
        const gated = product(m, { gate: 'silu', threads });
        expectSameBits(gated, apart, `[${m}, ${n}, ${k}] with ${threads} threads`);
      }
    }
  }
}
