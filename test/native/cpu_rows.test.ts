import type { NativeTensor } from '../../dist/native';
import { eps, expectNear, expectSameBits, f32, i32, isas, narrow, native, out, seeded } from './kernels';

const shapes = [
  [0, 7],
  [1, 1],
  [3, 15],
  [2, 5, 16],
  [5, 33],
  [300, 129],
];

type Attrs = Record<string, number | string | number[]>;

/** Runs on the set and on the reference; the same bits from one thread, from two, and again. */
function both(
  isa: string,
  op: string,
  inputs: (NativeTensor | null)[],
  shape: number[],
  attrs: Attrs,
): [NativeTensor, NativeTensor] {
  const run = (backend: string, threads: number) =>
    native.runOp(backend, op, inputs, out(shape, inputs[0]!.dtype === 'i32' ? 'i32' : 'f32'), attrs, { threads })[0]!;
  const found = run(isa, 2);
  if (inputs[0]!.dtype !== 'i32') {
    expectSameBits(run(isa, 1), found, 'one thread');
    expectSameBits(run(isa, 2), found, 'again');
  }
  return [found, run('ref', 2)];
}

const magnitudes = (tensor: NativeTensor): Float32Array => (tensor.data as Float32Array).map(Math.abs);

describe.each(isas)('rows on %s', (isa) => {
  test.each(['gelu', 'gelu_tanh', 'quick_gelu', 'silu', 'relu', 'tanh'])('act and gated_act: %s', (kind) => {
    for (const shape of shapes) {
      const x = seeded(shape, shape[0]!, 2);
      const [found, expected] = both(isa, 'act', [x], shape, { kind });
      // Three or four roundings and a polynomial within 2 units, each at most half a unit of x.
      const size = magnitudes(x);
      expectNear(found, expected, (i) => 8 * eps * size[i]! + 1e-37, kind);
      if (shape.at(-1)! % 2 !== 0) continue;
      const half = [...shape.slice(0, -1), shape.at(-1)! / 2];
      const [gated, reference] = both(isa, 'gated_act', [x], half, { kind });
      const width = half.at(-1)!;
      const product = (i: number) => {
        const row = Math.floor(i / width) * 2 * width;
        return size[row + (i % width)]! * size[row + width + (i % width)]!;
      };
      expectNear(gated, reference, (i) => 9 * eps * product(i) + 1e-37, `gated ${kind}`);
    }
  });

  test('activations keep their ends', () => {
    const x = f32([9], Float32Array.from([-1e30, -200, -88, -20, 0, 20, 88, 200, 1e30]));
    for (const kind of ['gelu', 'gelu_tanh', 'quick_gelu', 'silu', 'relu', 'tanh']) {
      const [found, expected] = both(isa, 'act', [x], [9], { kind });
      expectNear(found, expected, (i) => 1e-6 * Math.abs((expected.data as Float32Array)[i]!) + 1e-6, kind);
    }
    const nan = both(isa, 'act', [f32([2], Float32Array.from([NaN, 1]))], [2], { kind: 'silu' })[0];
    expect((nan.data as Float32Array)[0]).toBeNaN();
  });

  test('rms_norm and layer_norm', () => {
    for (const shape of shapes) {
      const width = shape.at(-1)!;
      const x = seeded(shape, 21);
      const weight = seeded([width], 22);
      const bias = seeded([width], 23);
      const half = narrow(weight, 'bf16');
      for (const w of [weight, half, narrow(weight, 'f16')]) {
        const [rms, expected] = both(isa, 'rms_norm', [x, w], shape, { eps: 1e-5, offset: 1 });
        // The sum of squares in chains of width / 4 vectors, then five roundings.
        const size = magnitudes(expected);
        expectNear(rms, expected, (i) => (5 + width / 16) * eps * size[i]! + 1e-37, `rms_norm [${shape}]`);
        const [layer, reference] = both(isa, 'layer_norm', [x, w, bias], shape, { eps: 1e-5 });
        // Differences from the mean lose what the mean's error is beside them: a few units of the largest element, 60.
        expectNear(layer, reference, () => (64 + width / 4) * 60 * eps, `layer_norm [${shape}]`);
      }
      both(isa, 'layer_norm', [x, weight, null], shape, { eps: 1e-5 });
    }
    // A row far from zero: the variance comes from differences, not from a difference of squares.
    const far = f32(
      [1, 64],
      Float32Array.from({ length: 64 }, (_, i) => 1000 + (i % 2)),
    );
    const [found] = both(isa, 'layer_norm', [far, f32([64], new Float32Array(64).fill(1)), null], [1, 64], { eps: 0 });
    (found.data as Float32Array).forEach((v, i) => expect(v).toBe(i % 2 === 0 ? -1 : 1));
  });

  test('add and mul: the same shape, a suffix, a scalar, an attribute', () => {
    for (const op of ['add', 'mul']) {
      for (const shape of shapes) {
        const a = seeded(shape, 31);
        const suffix = seeded(shape.slice(1), 32);
        for (const b of [
          seeded(shape, 33),
          suffix,
          narrow(suffix, 'bf16'),
          narrow(suffix, 'f16'),
          seeded([], 34),
          null,
        ]) {
          const [found, expected] = both(isa, op, [a, b], shape, b ? {} : { value: 0.1 });
          // One rounding, as the reference's.
          expectSameBits(found, expected, `${op} [${shape}] with ${b ? `[${b.shape}]` : 'a value'}`);
        }
      }
    }
  });

  test('rope: halves, pairs, part of the head, axes', () => {
    const positions = [0, 1, 2, 77, 4095, 131071, 999983];
    for (const [dim, rotary, style, more] of [
      [64, 64, 'half', {}],
      [64, 20, 'half', { scale: 1.25 }],
      [37, 36, 'pairs', {}],
      [128, 128, 'half', { sections: [16, 24, 24] }],
      [128, 128, 'half', { sections: [24, 20, 20], interleaved: 1 }],
      [2100, 2100, 'half', {}],
    ] as [number, number, string, Attrs][]) {
      const axes = (more.sections as number[] | undefined)?.length ?? 1;
      const x = seeded([7, 3, dim], dim);
      const frequencies = Float32Array.from({ length: rotary / 2 }, (_, j) => 10000 ** ((-2 * j) / rotary));
      const all = Array.from({ length: axes }, (_, axis) => positions.map((p) => Math.floor(p / (axis + 1)))).flat();
      const place = i32(all, axes === 1 ? [7] : [axes, 7]);
      const [found, expected] = both(isa, 'rope', [x, place, f32([rotary / 2], frequencies)], x.shape, {
        rotary,
        style,
        ...more,
      });
      // Of a x - b y: two products, their difference, and 2 units each of sine and cosine; the operands reach 60.
      expectNear(found, expected, () => 10 * 60 * eps, `${style} ${rotary} of ${dim}`);
    }
  });

  test('gather_rows, scatter_rows', () => {
    for (const width of [1, 16, 37, 300]) {
      const table = seeded([9, width], 41);
      const index = i32([3, -1, 8, 0, 3]);
      for (const rows of [table, narrow(table, 'bf16'), narrow(table, 'f16')]) {
        const [found, expected] = both(isa, 'gather_rows', [rows, index], [5, width], {});
        expectSameBits(found, expected, 'gather_rows');
        const few = { ...rows, shape: [5, width], data: (rows.data as Uint16Array).slice(0, 5 * width) };
        for (const add of [0, 1]) {
          const [written, reference] = both(isa, 'scatter_rows', [table, index, few], [9, width], { add });
          expectSameBits(written, reference, `scatter_rows, add ${add}`);
        }
      }
      expect(both(isa, 'gather_rows', [table, i32([])], [0, width], {})[0].shape).toEqual([0, width]);
      for (const op of ['gather_rows', 'scatter_rows']) {
        const inputs = [table, i32([9]), ...(op === 'scatter_rows' ? [seeded([1, width], 42)] : [])];
        const shape = [op === 'scatter_rows' ? 9 : 1, width];
        expect(() => native.runOp(isa, op, inputs, out(shape), {})).toThrow(/Expected indices below 9 for 'index'/);
      }
    }
  });

  test('concat, patchify', () => {
    const [a, b] = [seeded([2, 3, 5], 51), seeded([2, 4, 5], 52)];
    const [joined, expected] = both(isa, 'concat', [a, b], [2, 7, 5], { dim: 1 });
    expectSameBits(joined, expected, 'concat');
    const c = narrow(seeded([2, 3, 70], 53), 'bf16');
    const [last, reference] = both(isa, 'concat', [a, c], [2, 3, 75], { dim: 2 });
    expectSameBits(last, reference, 'concat of the last dimension');
    const [whole] = both(isa, 'concat', [i32([1, 2]), i32([3])], [3], { dim: 0 });
    expect(Array.from(whole.data as Int32Array)).toEqual([1, 2, 3]);
    const picture = seeded([2, 3, 29, 43], 54);
    const [patches, truth] = both(isa, 'patchify', [picture], [2, 6, 588], { patch: 14 });
    expectSameBits(patches, truth, 'patchify');
  });

  test('kv_store writes its slots and nothing else', () => {
    for (const dtype of ['f32', 'bf16', 'i8'] as const) {
      // Rows of int8 are a scale and quants: sizes of a multiple of four.
      const [dk, dv] = dtype === 'i8' ? [20, 36] : [19, 33];
      const [k, v] = [seeded([4, 2, dk], 61), seeded([4, 2, dv], 62)];
      // The bits of a bf16 are the reference's for denormals, NaN and ties too.
      (k.data as Float32Array).set([NaN, 1e-40, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -Infinity, 3.4e38]);
      const cache = (width: number, seed: number): NativeTensor => {
        if (dtype === 'i8')
          return { dtype, shape: [3, 2, 4, width + 4], data: new Int8Array(24 * (width + 4)).fill(7) };
        const wide = seeded([3, 2, 4, width], seed);
        return dtype === 'bf16' ? narrow(wide, 'bf16') : wide;
      };
      const step = {
        k: cache(dk, 63),
        v: cache(dv, 64),
        sequences: 1,
        maxBlocks: 3,
        cuRows: i32([0, 4]),
        context: i32([4]),
        blockTable: i32([0, 1, 2], [1, 3]),
        slot: i32([5, -1, 11, 0]),
        hi: i32([1, 2, 3, 4]),
      };
      const run = (backend: string) =>
        native.runOp(backend, 'kv_store', [k, v], [], { layer: 0 }, { threads: 2, step });
      const expected = run('ref');
      run(isa).forEach((tensor, i) => {
        expect(
          Buffer.from((tensor.data as Uint8Array).buffer).equals(Buffer.from((expected[i]!.data as Uint8Array).buffer)),
        ).toBe(true);
      });
    }
  });
});
