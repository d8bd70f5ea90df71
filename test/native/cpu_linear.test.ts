import type { NativeTensor } from '../../dist/native';
import {
  eps,
  expectGates,
  expectSameBits,
  expectSameRows,
  f32,
  isas,
  multipliesBf16,
  native,
  out,
  seeded,
  toBf16,
} from './kernels';

const formats = ['f32', 'bf16', 'f16'] as const;
type Format = (typeof formats)[number];

function linear(
  backend: string,
  x: NativeTensor,
  w: NativeTensor,
  bias: NativeTensor | null,
  format: Format,
  options: { threads?: number; act?: string; gate?: string } = {},
): NativeTensor {
  const shape = [...x.shape.slice(0, -1), options.gate ? w.shape[0]! / 2 : w.shape[0]!];
  const attrs: Record<string, string> = {};
  if (options.act) attrs.act = options.act;
  if (options.gate) attrs.gate = options.gate;
  return native.runOp(backend, 'linear', [x, w, bias], out(shape), attrs, {
    packed: format,
    threads: options.threads ?? 2,
  })[0]!;
}

function rows(x: NativeTensor, first: number, count: number): NativeTensor {
  const width = x.shape[1]!;
  return f32([count, width], (x.data as Float32Array).subarray(first * width, (first + count) * width));
}

/**
 * The largest error over |x||w|, of `found` and of a naive kernel of the same dtype (operands as the format has them, one f32 chain over
 * k, every product rounded), against exact arithmetic on the unrounded activations.
 */
function errors(isa: string, x: NativeTensor, w: NativeTensor, format: Format, found: NativeTensor): [number, number] {
  const weights = w.data as Float32Array;
  const [m, k, n] = [x.shape[0]!, x.shape[1]!, w.shape[0]!];
  const exact = linear('ref', x, f32(w.shape, weights), null, format).data as Float32Array;
  // Row j of the rounded weights is what the reference gives for the unit vectors; bf16 is cheap to say directly.
  const round = format === 'bf16' ? toBf16 : format === 'f16' ? (v: number) => Math.fround(toF16(v)) : Math.fround;
  let ours = 0;
  let naive = 0;
  for (let i = 0; i < m; i++) {
    for (let j = i % 3; j < n; j += 3) {
      let chain = 0;
      let xx = 0;
      let ww = 0;
      for (let p = 0; p < k; p++) {
        const a = (x.data as Float32Array)[i * k + p]!;
        const b = round(weights[j * k + p]!);
        xx += a * a;
        ww += b * b;
        chain = Math.fround(chain + Math.fround((format === 'bf16' && multipliesBf16(isa) ? toBf16(a) : a) * b));
      }
      const norm = Math.sqrt(xx * ww) || 1;
      ours = Math.max(ours, Math.abs((found.data as Float32Array)[i * n + j]! - exact[i * n + j]!) / norm);
      naive = Math.max(naive, Math.abs(chain - exact[i * n + j]!) / norm);
    }
  }
  return [ours, naive];
}

function toF16(value: number): number {
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(value) || 1)), -14);
  const unit = 2 ** (exponent - 10);
  const low = Math.floor(value / unit);
  const rest = value / unit - low;
  return (rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low) * unit;
}

describe.each(isas)('linear on %s', (isa) => {
  test.each(formats)('%s: at most twice the error of a naive kernel', (format) => {
    // Tile and panel borders are 32, 16, 12, 6, 4 rows and 32, 16, 8 columns, with AMX 32 of k; 1 of k is an odd pair.
    for (const [m, n, k] of [
      [1, 33, 1],
      [13, 31, 2],
      [12, 32, 64],
      [33, 40, 96],
      [25, 65, 129],
      [7, 1, 515],
    ] as const) {
      const x = seeded([m, k], 7 * m + k);
      const w = seeded([n, k], 11 * n + k);
      const [ours, naive] = errors(isa, x, w, format, linear(isa, x, w, null, format));
      // The store rounds to f32 once: half a unit of a result that is no larger than |x||w|.
      if (!(ours <= 2 * naive + eps)) throw new Error(`[${m}, ${n}, ${k}]: ${ours} against ${naive} of the naive one`);
    }
  });

  test.each(formats)('%s: a row has the same bits among 1 to 40 rows', (format) => {
    const w = seeded([70, 67], 3);
    const bias = seeded([70], 4);
    const x = seeded([40, 67], 5);
    const all = linear(isa, x, w, bias, format, { act: 'silu' });
    for (let m = 1; m <= 40; m++) {
      const first = linear(isa, rows(x, 0, m), w, bias, format, { act: 'silu', threads: 1 + (m % 2) });
      expectSameRows(first, 0, all, 0, m * 70, `the first ${m} rows`);
      const alone = linear(isa, rows(x, m - 1, 1), w, bias, format, { act: 'silu' });
      expectSameRows(alone, 0, all, (m - 1) * 70, 70, `row ${m - 1} alone`);
    }
  });

  test.each(formats)('%s: many long rows', (format) => {
    // AMX cuts k above 2048 for 241 rows and more where results are whole panels without a gate.
    const [m, k] = [250, 2200];
    const x = seeded([m, k], 12);
    for (const [n, options] of [
      [96, {}],
      [70, {}],
      [64, { act: 'silu' }],
      [64, { gate: 'silu' }],
    ] as const) {
      const w = seeded([n, k], 13, 0.05);
      const all = linear(isa, x, w, null, format, options);
      const width = all.shape[1]!;
      for (const row of [0, 31, 32, 249])
        expectSameRows(
          linear(isa, rows(x, row, 1), w, null, format, options),
          0,
          all,
          row * width,
          width,
          `row ${row}`,
        );
      expectSameBits(linear(isa, x, w, null, format, { ...options, threads: 1 }), all, 'one thread');
    }
  });

  test.each(formats)('%s: many panels, one thread or two, again and again', (format) => {
    const w = seeded([600, 512], 6, 0.05);
    const x = seeded([30, 512], 7);
    const once = linear(isa, x, w, null, format, { threads: 1 });
    expectSameBits(linear(isa, x, w, null, format), once, 'two threads');
    expectSameBits(linear(isa, x, w, null, format), once, 'again');
    expectSameRows(linear(isa, rows(x, 29, 1), w, null, format), 0, once, 29 * 600, 600, 'the last row alone');
    const [ours, naive] = errors(isa, rows(x, 0, 2), w, format, linear(isa, rows(x, 0, 2), w, null, format));
    expect(ours).toBeLessThanOrEqual(2 * naive + eps);
  });

  test.each(formats)('%s: a gate has the bits of gated_act behind the product', (format) => {
    for (const biased of [false, true]) {
      expectGates(isa, [0, 1, 2, 5, 12, 13, 17, 33, 40], (n, k) => {
        const [w, bias, x] = [seeded([n, k], 3), seeded([n], 4), seeded([40, k], 5)];
        return (m, options) => linear(isa, rows(x, 0, m), w, biased ? bias : null, format, options);
      });
    }
  });

  test('no rows, more dimensions, a bias of 16 bits, each activation', () => {
    const w = seeded([5, 3], 8);
    expect(linear(isa, f32([0, 3], new Float32Array()), w, null, 'f32').shape).toEqual([0, 5]);
    const x = seeded([2, 1, 2, 3], 9);
    const bias: NativeTensor = {
      dtype: 'bf16',
      shape: [5],
      data: Uint16Array.from([0x3f80, 0xbf80, 0, 0x4000, 0x3f00]),
    };
    for (const act of ['', 'gelu', 'gelu_tanh', 'quick_gelu', 'silu', 'relu', 'tanh']) {
      const found = linear(isa, x, w, bias, 'f32', { act }).data as Float32Array;
      const expected = linear('ref', x, w, bias, 'f32', { act }).data as Float32Array;
      found.forEach((v, i) => expect(Math.abs(v - expected[i]!)).toBeLessThan(1e-6 * (1 + Math.abs(expected[i]!))));
    }
  });

  test('a gate: the reference', () => {
    for (const n of [6, 128]) {
      const [x, w, bias] = [seeded([2, 1, 2, 3], 9), seeded([n, 3], 8), seeded([n], 7)];
      const found = linear(isa, x, w, bias, 'f32', { gate: 'gelu' }).data as Float32Array;
      const expected = linear('ref', x, w, bias, 'f32', { gate: 'gelu' }).data as Float32Array;
      // Both factors are off by a few units of their sums, which are below 16 here.
      found.forEach((v, i) => expect(Math.abs(v - expected[i]!)).toBeLessThan(1e-5 * (1 + Math.abs(expected[i]!))));
    }
  });
});

test('a gate takes an even number of rows and no activation beside it', () => {
  const x = seeded([2, 3], 1);
  const run = (n: number, attrs: Record<string, string>): unknown =>
    native.runOp('ref', 'linear', [x, seeded([n, 3], 2), null], out([2, Math.floor(n / 2)]), attrs, { packed: 'f32' });
  expect(() => run(5, { gate: 'silu' })).toThrow(expect.objectContaining({ code: 'ERR_SHAPE' }));
  expect(() => run(6, { gate: 'silu', act: 'silu' })).toThrow(expect.objectContaining({ code: 'ERR_PROGRAM' }));
  expect(() => run(6, { gate: 'swish' })).toThrow(expect.objectContaining({ code: 'ERR_PROGRAM' }));
});
