import { loadNative, type NativeDType, type NativeTensor } from '../../dist/native';

const f32 = (shape: number[], data: number[]): NativeTensor => ({ dtype: 'f32', shape, data: Float32Array.from(data) });
const i32 = (shape: number[], data: number[]): NativeTensor => ({ dtype: 'i32', shape, data: Int32Array.from(data) });
const out = (shape: number[], dtype: NativeDType = 'f32') => [{ dtype, shape }];
const values = (result: NativeTensor[]): number[] => Array.from(result[0]!.data as Float32Array);
const thrown = (f: () => unknown): { code: string; message: string } => {
  try {
    f();
  } catch (e) {
    return e as { code: string; message: string };
  }
  throw new Error('expected an error');
};

describe('reference ops', () => {
  const native = loadNative();

  test('linear rounds weights to the packed format and applies bias and activation', () => {
    const x = f32([2, 3], [1, 2, 3, -1, 0, 1]);
    const w = f32([2, 3], [1, 0, 0, 1, 1, 1 + 2 ** -9]);
    const exact = values(
      native.runOp('ref', 'linear', [x, w, f32([2], [0.5, -1])], out([2, 2]), {}, { packed: 'f32' }),
    );
    expect(exact).toEqual([1.5, 5 + 3 * 2 ** -9, -0.5, -1 + 2 ** -9]);
    const rounded = values(
      native.runOp('ref', 'linear', [x, w, null], out([2, 2]), { act: 'relu' }, { packed: 'bf16', threads: 2 }),
    );
    expect(rounded).toEqual([1, 6, 0, 0]);
  });

  test('gather_rows reads zeros below 0 and refuses what lies beyond the table', () => {
    const table = f32([2, 2], [1, 2, 3, 4]);
    expect(values(native.runOp('ref', 'gather_rows', [table, i32([3], [1, -1, 0])], out([3, 2]), {}))).toEqual([
      3, 4, 0, 0, 1, 2,
    ]);
    const error = thrown(() => native.runOp('ref', 'gather_rows', [table, i32([1], [2])], out([1, 2]), {}));
    expect(error.code).toBe('ERR_INDEX');
  });

  test('scatter_rows replaces or adds', () => {
    const inputs = [f32([3, 1], [1, 2, 3]), i32([3], [2, -1, 2]), f32([3, 1], [10, 20, 30])];
    expect(values(native.runOp('ref', 'scatter_rows', inputs, out([3, 1]), {}))).toEqual([1, 2, 30]);
    expect(values(native.runOp('ref', 'scatter_rows', inputs, out([3, 1]), { add: 1 }))).toEqual([1, 2, 43]);
  });

  test('rope turns halves or pairs, by axis', () => {
    const x = f32([1, 1, 4], [1, 0, 0, 1]);
    const half = values(
      native.runOp('ref', 'rope', [x, i32([1], [1]), f32([2], [Math.PI / 2, 0])], out([1, 1, 4]), {
        rotary: 4,
        style: 'half',
      }),
    );
    [0, 0, 1, 1].forEach((v, i) => expect(half[i]).toBeCloseTo(v, 6));
    const axes = values(
      native.runOp('ref', 'rope', [x, i32([2, 1], [0, 1]), f32([2], [Math.PI / 2, Math.PI / 2])], out([1, 1, 4]), {
        rotary: 4,
        style: 'pairs',
        sections: [1, 1],
      }),
    );
    [1, 0, -1, 0].forEach((v, i) => expect(axes[i]).toBeCloseTo(v, 6));
    const error = thrown(() =>
      native.runOp('ref', 'rope', [x, i32([2, 1], [0, 1]), f32([2], [1, 1])], out([1, 1, 4]), {
        rotary: 4,
        style: 'half',
      }),
    );
    expect(error.code).toBe('ERR_PROGRAM');
  });

  test('attention_varlen keeps segments apart', () => {
    const q = f32([3, 1, 1], [0, 0, 0]);
    const v = f32([3, 1, 1], [1, 3, 7]);
    expect(
      values(native.runOp('ref', 'attention_varlen', [q, q, v, i32([3], [0, 2, 3])], out([3, 1, 1]), { scale: 1 })),
    ).toEqual([2, 2, 7]);
    expect(
      values(native.runOp('ref', 'attention_varlen', [q, q, v, null], out([3, 1, 1]), { scale: 1, causal: 1 }))[2],
    ).toBeCloseTo(11 / 3, 6);
    const error = thrown(() =>
      native.runOp('ref', 'attention_varlen', [q, q, v, i32([2], [2, 1])], out([3, 1, 1]), { scale: 1 }),
    );
    expect(error.code).toBe('ERR_INDEX');
  });

  test('norms, activations, elementwise, concat, patchify', () => {
    const x = f32([1, 2], [3, 4]);
    const rms = values(native.runOp('ref', 'rms_norm', [x, f32([2], [0, 1])], out([1, 2]), { eps: 0, offset: 1 }));
    expect(rms[0]).toBeCloseTo(3 / Math.sqrt(12.5), 6);
    expect(rms[1]).toBeCloseTo(8 / Math.sqrt(12.5), 6);
    expect(values(native.runOp('ref', 'layer_norm', [x, f32([2], [1, 1]), null], out([1, 2]), { eps: 0 }))).toEqual([
      -1, 1,
    ]);
    expect(values(native.runOp('ref', 'gated_act', [x], out([1, 1]), { kind: 'relu' }))).toEqual([12]);
    expect(
      values(native.runOp('ref', 'add', [f32([2, 2], [1, 2, 3, 4]), f32([2], [10, 20])], out([2, 2]), {})),
    ).toEqual([11, 22, 13, 24]);
    expect(values(native.runOp('ref', 'mul', [x, null], out([1, 2]), { value: 2 }))).toEqual([6, 8]);
    expect(values(native.runOp('ref', 'concat', [x, f32([1, 1], [5])], out([1, 3]), { dim: 1 }))).toEqual([3, 4, 5]);
    const picture = f32([1, 1, 2, 5], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(values(native.runOp('ref', 'patchify', [picture], out([1, 2, 4]), { patch: 2 }))).toEqual([
      0, 1, 5, 6, 2, 3, 7, 8,
    ]);
  });

  test('a contract names path, operand, expectation and what came', () => {
    const error = thrown(() =>
      native.runOp('ref', 'rms_norm', [f32([1, 2], [1, 2]), f32([3], [1, 2, 3])], out([1, 2]), { eps: 1 }),
    );
    expect(error).toMatchObject({
      code: 'ERR_SHAPE',
      message: "Expected [2] for 'weight' of rms_norm but received f32[3]",
    });
  });

  test('arguments are checked before anything runs', () => {
    const bad = [
      () => native.runOp('ref', 'nothing', [], [], {}),
      () =>
        native.runOp('ref', 'act', [{ dtype: 'f32', shape: [2], data: new Float32Array(1) }], out([2]), {
          kind: 'silu',
        }),
      () =>
        native.runOp('ref', 'act', [{ dtype: 'f64' as NativeDType, shape: [2], data: new Float32Array(2) }], out([2]), {
          kind: 'silu',
        }),
      () => native.runOp('ref', 'act', [f32([2], [1, 2])], out([-1]), { kind: 'silu' }),
      () => native.runOp('ref', 'act', [f32([2], [1, 2])], out([2 ** 31, 2]), { kind: 'silu' }),
      () => native.runOp('ref', 'act', null as unknown as NativeTensor[], out([2]), { kind: 'silu' }),
    ];
    for (const f of bad) expect(thrown(f).code).toBe('ERR_INVALID_ARGUMENT');
  });
});
