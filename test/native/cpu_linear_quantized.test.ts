/** linear with quantised weights: exact sums of quants, so that the reference and every set differ by the rounding of block sums alone. */
import type { NativeTensor, WeightFormat } from '../../dist/native';
import {
  eps,
  expectGates,
  expectNear,
  expectSameBits,
  expectSameRows,
  f32,
  isas,
  native,
  out,
  seeded,
} from './kernels';

const formats = ['i8', 'i4', 'i8_rows', 'i4_rows', 'i8_exact', 'i4_exact'] as const;

function linear(
  backend: string,
  x: NativeTensor,
  w: NativeTensor,
  format: WeightFormat,
  options: { threads?: number; act?: string; gate?: string; bias?: NativeTensor } = {},
): NativeTensor {
  const shape = [...x.shape.slice(0, -1), options.gate ? w.shape[0]! / 2 : w.shape[0]!];
  const attrs: Record<string, string> = {};
  if (options.act) attrs.act = options.act;
  if (options.gate) attrs.gate = options.gate;
  return native.runOp(backend, 'linear', [x, w, options.bias ?? null], out(shape), attrs, {
    packed: format,
    threads: options.threads ?? 2,
  })[0]!;
}

const floats = (t: NativeTensor): Float32Array => t.data as Float32Array;
const norm = (data: Float32Array, row: number, width: number): number =>
  Math.hypot(...data.subarray(row * width, (row + 1) * width));

function rows(x: NativeTensor, first: number, count: number): NativeTensor {
  const width = x.shape[1]!;
  return f32([count, width], floats(x).subarray(first * width, (first + count) * width));
}

/** x as its quants of block 32 or of the row, `levels` of either sign, have it: as core/quantize.h says, in float64. */
function roundTrip(x: Float32Array, width: number, block: number, levels: number): Float32Array {
  const result = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += width) {
    for (let at = row; at < row + width; at += block) {
      const part = x.subarray(at, Math.min(at + block, row + width));
      const most = Math.max(...part.map(Math.abs));
      part.forEach((v, i) => (result[at + i] = most === 0 ? 0 : (Math.round((v / most) * levels) * most) / levels));
    }
  }
  return result;
}

describe.each(isas)('quantised linear on %s', (isa) => {
  test.each(formats)('%s: the reference but for the rounding of block sums', (format) => {
    // Panels are 32, 16 or 8 columns, tiles up to 9 or 2 rows; 1, 31 and 33 of k end within a block.
    for (const [m, n, k] of [
      [1, 33, 1],
      [13, 31, 31],
      [6, 32, 64],
      [7, 65, 129],
      [3, 9, 515],
    ] as const) {
      const [x, w] = [seeded([m, k], 7 * m + k), seeded([n, k], 11 * n + k)];
      const bound = (index: number): number => {
        const [i, j] = [Math.floor(index / n), index % n];
        // Each of the block sums rounds twice and joins a chain; in four bits, parts of twice the size cancel.
        return 8 * eps * (Math.ceil(k / 32) + 4) * (norm(floats(x), i, k) * norm(floats(w), j, k) + 1e-3);
      };
      expectNear(linear(isa, x, w, format), linear('ref', x, w, format), bound, `${format} [${m}, ${n}, ${k}]`);
    }
  });

  test.each(formats)('%s: a row has the same bits among 1 to 66 rows', (format) => {
    // Eight panels of 32, the last one not full: one thread takes four side by side, or what is left of them.
    const n = 230;
    const [w, bias, x] = [seeded([n, 67], 3), seeded([n], 4), seeded([66, 67], 5)];
    const all = linear(isa, x, w, format, { bias, act: 'silu' });
    for (let m = 1; m <= 66; m++) {
      const first = linear(isa, rows(x, 0, m), w, format, { bias, act: 'silu', threads: 1 + (m % 2) });
      expectSameRows(first, 0, all, 0, m * n, `the first ${m} rows`);
      expectSameRows(linear(isa, rows(x, m - 1, 1), w, format, { bias, act: 'silu' }), 0, all, (m - 1) * n, n, 'alone');
    }
  });

  test.each(formats)('%s: a gate has the bits of gated_act behind the product', (format) => {
    // Tiles and split nibbles begin at 16 and 64 rows.
    expectGates(isa, [0, 1, 2, 5, 9, 17, 30, 70], (n, k) => {
      const [w, bias, x] = [seeded([n, k], 3), seeded([n], 4), seeded([70, k], 5)];
      return (m, options) => linear(isa, rows(x, 0, m), w, format, { bias, ...options });
    });
  });

  test.each(formats)('%s: the largest quants everywhere do not saturate', (format) => {
    // Every product of bytes is 127 x 127 or its negative: pairs of them are what 16 bits just hold.
    const [m, n, k] = [3, 40, 256];
    for (const sign of [1, -1]) {
      const x = f32([m, k], new Float32Array(m * k).fill(sign));
      const w = f32(
        [n, k],
        // Two odd ones a block, or its quants would be 1 and -1.
        Float32Array.from({ length: n * k }, (_, i) => ({ 7: 0.185, 9: 0.31 })[i % 32] ?? (i % 64 === 63 ? -0.5 : 0.5)),
      );
      const expected = sign * (k * 0.5 - 2 * 0.5 * (k / 64) - (0.315 + 0.19) * (k / 32));
      for (const v of floats(linear(isa, x, w, format))) expect(Math.abs(v - expected)).toBeLessThan(0.003 * k);
    }
  });

  test.each(formats)('%s: zeros are zero; what is not finite makes its row NaN and no other', (format) => {
    const w = seeded([35, 64], 8);
    expect([...floats(linear(isa, f32([2, 64], new Float32Array(128)), w, format))]).toEqual(new Array(70).fill(0));
    for (const bad of [NaN, Infinity, -Infinity]) {
      const x = seeded([3, 64], 9);
      floats(x)[64 + 40] = bad;
      const found = floats(linear(isa, x, w, format));
      found.forEach((v, i) => expect(Number.isNaN(v)).toBe(i >= 35 && i < 70));
    }
  });

  test.each(formats)('%s: one thread or two, again', (format) => {
    const [w, x] = [seeded([600, 512], 6, 0.05), seeded([30, 512], 7)];
    const once = linear(isa, x, w, format, { threads: 1 });
    expectSameBits(linear(isa, x, w, format), once, 'two threads');
    expectSameBits(linear(isa, x, w, format), once, 'again');
    // One tile of rows against so many panels that tasks are made of panels side by side.
    for (const m of [1, 2, 3, 5, 9]) {
      for (const threads of [1, 2])
        expectSameRows(linear(isa, rows(x, 0, m), w, format, { threads }), 0, once, 0, m * 600, `${m} rows`);
    }
  });
});

test.each(formats)('%s: the reference is within half a quant of each factor', (format) => {
  const [m, n, k] = [5, 40, 320];
  const [x, w] = [seeded([m, k], 1), seeded([n, k], 2)];
  const found = floats(linear('ref', x, w, format));
  // Activations as they are quantised; what is left is the weights' error, of unit roots a block.
  const quants = f32(
    [m, k],
    roundTrip(floats(x), k, format.endsWith('rows') ? k : 32, format.endsWith('exact') ? 127 * 128 : 127),
  );
  const exact = floats(linear('ref', quants, w, 'f32'));
  let [error, size] = [0, 0];
  found.forEach((v, i) => {
    error += (v - exact[i]!) ** 2;
    size += exact[i]! ** 2;
  });
  // Uniform rounding of normal weights with outliers: 1/127 or 1/15 of a block's range, over the root of twelve; a row's is about twice as large.
  expect(Math.sqrt(error / size)).toBeLessThan(format === 'i8_rows' ? 0.04 : format.startsWith('i8') ? 0.02 : 0.2);
  expect(Math.sqrt(error / size)).toBeGreaterThan(format.startsWith('i8') ? 1e-4 : 1e-2);
});

/** A block of the grids that GGUF files quantise to, as their exact values. */
const grids = {
  // Scales that float16 has; the largest quant is there, as whoever wrote the file divided by it.
  'Q8_0 in i8': ['i8', (i: number) => (i === 5 ? -127 : ((i * 37) % 255) - 127) * 0.01171875],
  'Q4_1 in i4': ['i4', (i: number) => ((i * 7) % 16) * 0.0458984375 - 0.203125],
  // Without its topmost quant: the grid from the smallest to the largest weight would be another.
  'Q4_0 in i4': ['i4', (i: number) => (((i * 7) % 14) - 8) * -0.0458984375],
  // Of five and four bits, with and without the largest quant.
  'Q5_0 in i8': ['i8', (i: number) => (((i * 7) % 32) - 16) * -0.0458984375],
  'Q5_0 in i8, 13 steps at most': ['i8', (i: number) => (((i * 7) % 26) - 13) * 0.0458984375],
  'Q4_0 in i8': ['i8', (i: number) => (((i * 7) % 16) - 8) * 0.0458984375],
  // Q4_K, whose scale and least have more bits than float16: without 0 and 15 among its quants.
  'Q4_K in i4': ['i4', (i: number) => (1 + ((i * 7) % 13)) * 0.04443359375 * 1.25 - 0.30126953125 * 1.0625, 2 ** -11],
} as const;

test.each(['i8_exact', 'i4_exact'] as const)('%s: activations lose what their fifteen bits cannot hold', (format) => {
  // Weights of 1 and 0 are exact in either format, so that all error is that of activations: half a step of their block's largest, each.
  const [m, k] = [9, 96];
  const x = seeded([m, k], 12);
  const unit = f32(
    [k, k],
    Float32Array.from({ length: k * k }, (_, i) => (i % (k + 1) === 0 ? 1 : 0)),
  );
  for (const backend of ['ref', ...isas]) {
    floats(linear(backend, x, unit, format)).forEach((found, i) => {
      const at = i - (i % 32);
      const most = Math.max(
        ...floats(x)
          .subarray(at, at + 32)
          .map(Math.abs),
      );
      // The grid of zero and one: 127 and 15 steps, whose scales float16 rounds by 2^-11.
      const bound = (most / (127 * 128)) * 0.5 + Math.abs(floats(x)[i]!) * 2 ** -11 + most * 2 ** -20;
      expect(Math.abs(found - floats(x)[i]!)).toBeLessThanOrEqual(bound);
    });
  }
});

test.each(Object.entries(grids))('%s: weights keep their values', (_name, [format, value, rounding = 0]) => {
  const [n, k] = [4, 64];
  const w = f32(
    [n, k],
    Float32Array.from({ length: n * k }, (_, i) => value(i % 32)),
  );
  // One activation of 1 at a time reads one weight: its quant is 127, its scale 1/127.
  const x = f32(
    [k, k],
    Float32Array.from({ length: k * k }, (_, i) => (i % (k + 1) === 0 ? 1 : 0)),
  );
  for (const backend of ['ref', ...isas]) {
    const found = floats(linear(backend, x, w, format));
    for (let i = 0; i < k; i++)
      for (let j = 0; j < n; j++) {
        // Scale, least and their sum round once each, of numbers up to a block's range.
        const error = Math.abs(found[i * n + j]! - floats(w)[j * k + i]!);
        expect(error).toBeLessThan(8 * eps * 1.5 + rounding * 0.5);
      }
  }
});

// Tiles multiply from 64 rows on, from 16 in four bits, any number where a row has one scale; blocks of k go through them in pairs.
if (isas.includes('amx'))
  test.each(formats)('%s on amx: the bits of avx512', (format) => {
    for (const [m, n, k] of [
      [2, 70, 130],
      [16, 33, 30],
      [64, 64, 64],
      [75, 31, 97],
      [70, 100, 515],
      [129, 600, 128],
      [250, 64, 4200],
    ] as const) {
      const [x, w, bias] = [seeded([m, k], 3 * m + k), seeded([n, k], 5 * n + k), seeded([n], 6)];
      floats(x)[k + 1] = NaN;
      const options = { bias, act: 'gelu' };
      expectSameBits(
        linear('amx', x, w, format, options),
        linear('avx512', x, w, format, options),
        `[${m}, ${n}, ${k}]`,
      );
    }
  });
