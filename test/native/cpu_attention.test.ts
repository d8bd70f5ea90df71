import type { NativeTensor } from '../../dist/native';
import { eps, expectSameRows, f32, i32, isas, multipliesBf16, native, out, seeded, toBf16 } from './kernels';
import { fill, nan, paged, plain, quantised, type Cache, type Sequence, type Setting } from './paged';

function queries(q: NativeTensor, first: number, count: number): NativeTensor {
  const width = q.shape[1]! * q.shape[2]!;
  return f32(
    [count, q.shape[1]!, q.shape[2]!],
    (q.data as Float32Array).subarray(first * width, (first + count) * width),
  );
}

/**
 * Two-pass softmax attention of one row in f32, every operation rounded, as the plainest kernel would; `pairs`: queries and weights in bf16, as
 * where bf16 is multiplied by bf16.
 */
function naive(
  q: Float32Array,
  k: Float32Array[],
  v: Float32Array[],
  scale: number,
  softcap: number,
  pairs: boolean,
): Float32Array {
  const f = Math.fround;
  const query = pairs ? q.map(toBf16) : q;
  const scores = k.map((key) => {
    let sum = 0;
    for (let d = 0; d < query.length; d++) sum = f(sum + f(query[d]! * key[d]!));
    sum = f(sum * f(scale));
    return softcap > 0 ? f(f(Math.tanh(f(sum / softcap))) * softcap) : sum;
  });
  const most = Math.max(...scores);
  const weights = scores.map((s) => (pairs ? toBf16 : f)(Math.exp(f(s - most))));
  const total = weights.reduce((a, b) => f(a + b), 0);
  return Float32Array.from(v[0]!, (_, d) => {
    let sum = 0;
    for (let j = 0; j < weights.length; j++) sum = f(sum + f(weights[j]! * v[j]![d]!));
    return f(sum / total);
  });
}

/** The largest element of each row of values that a pair may see bounds its result: errors are measured against it. */
function expectAccurate(setting: Setting, sequences: Sequence[], seed: number, isa: string): void {
  const contexts = sequences.map(({ context }) => context);
  const cache = fill(setting, contexts, seed);
  const batch = sequences.map((sequence, s) => ({ s, ...sequence }));
  const rows = sequences.reduce((sum, sequence) => sum + sequence.rows, 0);
  const { heads, kvHeads, dk, dv, kv } = setting;
  const q = seeded([rows, heads, dk], seed + 100);
  const found = paged(isa, setting, cache, q, batch).data as Float32Array;
  const exact = paged('ref', setting, cache, q, batch).data as Float32Array;
  const round = (data: Float32Array): Float32Array => (kv === 'f32' ? data : data.map(toBf16));
  const keys = cache.keys.map(round);
  const values = cache.values.map(round);
  const sizes = values.map((data) =>
    Float32Array.from({ length: data.length / dv }, (_, i) =>
      Math.max(...data.subarray(i * dv, (i + 1) * dv).map(Math.abs)),
    ),
  );
  const scale = setting.attrs?.scale ?? 1 / Math.sqrt(dk);
  const window = setting.attrs?.window ?? 0;
  let ours = 0;
  let theirs = 0;
  let row = 0;
  batch.forEach(({ s, rows: count, context, hi }) => {
    for (let i = 0; i < count; i++, row++) {
      const position = context - count + i;
      const end = Math.min(hi?.[i] ?? position + 1, context);
      const start = window > 0 ? Math.max(0, position + 1 - window) : 0;
      for (let h = 0; h < heads; h++) {
        const at = (row * heads + h) * dv;
        if (end <= start) {
          expect(Array.from(found.subarray(at, at + dv))).toEqual(new Array(dv).fill(0));
          continue;
        }
        const group = heads / kvHeads;
        const of = (data: Float32Array, width: number) =>
          Array.from({ length: end - start }, (_, j) => {
            const from = ((start + j) * kvHeads + Math.floor(h / group)) * width;
            return data.subarray(from, from + width);
          });
        const v = of(values[s]!, dv);
        const size = Math.max(...of(sizes[s]!, 1).map(([x]) => x!));
        const head = (q.data as Float32Array).subarray((row * heads + h) * dk, (row * heads + h + 1) * dk);
        const plainest = naive(
          head,
          of(keys[s]!, dk),
          v,
          scale,
          setting.attrs?.softcap ?? 0,
          multipliesBf16(isa) && kv === 'bf16',
        );
        for (let d = 0; d < dv; d++) {
          const error = Math.abs(found[at + d]! - exact[at + d]!) / size;
          if (Number.isNaN(error)) throw new Error(`NaN at row ${row}, head ${h}, ${d}`);
          ours = Math.max(ours, error);
          theirs = Math.max(theirs, Math.abs(plainest[d]! - exact[at + d]!) / size);
        }
      }
    }
  });
  if (!(ours <= 2 * theirs + eps)) throw new Error(`${ours} against ${theirs} of the naive kernel`);
}

describe.each(isas)('attention_paged on %s', (isa) => {
  test.each<[string, Setting, Sequence[]]>([
    ['one row', plain, [{ rows: 1, context: 1 }]],
    ['tile borders', plain, [255, 256, 257, 513].map((context) => ({ rows: 2, context }))],
    ['a prompt and rows that decode', plain, [30, 300, 1].map((context, i) => ({ rows: i === 0 ? 30 : 1, context }))],
    ['bf16 keys and values', { ...plain, kv: 'bf16' }, [{ rows: 20, context: 290 }]],
    ['bf16: a prompt of several blocks', { ...plain, kv: 'bf16', dk: 64, dv: 80 }, [{ rows: 170, context: 530 }]],
    [
      'bf16: sizes of no vector, a negative scale',
      { ...plain, heads: 3, kvHeads: 1, dk: 19, dv: 37, kv: 'bf16', attrs: { scale: -0.4 } },
      [40, 777].map((context) => ({ rows: 14, context })),
    ],
    ['one head, sizes of no vector', { ...plain, heads: 1, kvHeads: 1, dk: 19, dv: 37 }, [{ rows: 14, context: 40 }]],
    ['a group of 8', { ...plain, heads: 8, kvHeads: 1, dk: 64, dv: 64 }, [{ rows: 3, context: 280 }]],
    ['a window', { ...plain, attrs: { window: 20 } }, [{ rows: 40, context: 300 }]],
    ['softcap', { ...plain, attrs: { softcap: 5 } }, [{ rows: 5, context: 50 }]],
    ['bf16, both', { ...plain, kv: 'bf16', attrs: { window: 20, softcap: 5 } }, [{ rows: 40, context: 300 }]],
    [
      'a picture whose rows see each other, and a row that sees nothing',
      { ...plain, blockSize: 8 },
      [{ rows: 30, context: 270, hi: Array.from({ length: 30 }, (_, i) => (i === 3 ? 0 : i < 20 ? 261 : 241 + i)) }],
    ],
  ])('%s: at most twice the error of a naive kernel', (_, setting, sequences) => {
    expectAccurate(setting, sequences, 1, isa);
  });

  test.each(['f32', 'bf16'] as const)('%s: the same bits in any batch, chunk and number of threads', (kv) => {
    const setting: Setting = { ...plain, heads: 6, kvHeads: 2, dk: 32, dv: 32, kv };
    const prompts = [300, 41];
    const cache = fill(setting, prompts, 5);
    const q = prompts.map((rows, s) => seeded([rows, 6, 32], 50 + s));
    const width = 6 * 32;
    const whole = prompts.map((rows, s) => paged(isa, setting, cache, q[s]!, [{ s, rows, context: rows }]));
    const one = paged(isa, setting, cache, q[0]!, [{ s: 0, rows: 300, context: 300 }], 1);
    expectSameRows(one, 0, whole[0]!, 0, 300 * width, 'one thread');
    for (const chunks of [[1, 2, 3, 250, 44], [256, 44], [13, 100, 187], Array.from({ length: 12 }, () => 25)]) {
      let done = 0;
      for (const rows of chunks) {
        // The other sequence takes one row a step beside it; the rest of the cache is not to be read.
        const beside = Math.min(40, done);
        const mixed = f32([rows + 1, 6, 32], new Float32Array((rows + 1) * width));
        (mixed.data as Float32Array).set(queries(q[1]!, beside, 1).data as Float32Array);
        (mixed.data as Float32Array).set(queries(q[0]!, done, rows).data as Float32Array, width);
        const cut = fill(setting, prompts, 5);
        forget(cut, 0, done + rows);
        const found = paged(isa, setting, cut, mixed, [
          { s: 1, rows: 1, context: beside + 1 },
          { s: 0, rows, context: done + rows },
        ]);
        expectSameRows(found, 0, whole[1]!, beside * width, width, `row ${beside} of the other`);
        expectSameRows(found, width, whole[0]!, done * width, rows * width, `rows from ${done} on`);
        done += rows;
      }
    }
  });

  test.each([
    [1, 16],
    [2, 8],
    [4, 16],
    [5, 32],
    [8, 16],
    [16, 16],
  ])('steps of %d heads a key-value head, in blocks of %d: the bits of the prompt', (heads, blockSize) => {
    const attrs = { window: 270, softcap: 4 };
    const setting: Setting = { heads, kvHeads: 1, dk: 64, dv: 48, blockSize, kv: 'bf16', attrs };
    const rows = 291;
    const cache = fill(setting, [rows], 15);
    const q = seeded([rows, heads, 64], 60);
    const whole = paged(isa, setting, cache, q, [{ s: 0, rows, context: rows }]);
    for (const row of [0, 16, 255, 256, 271, 290]) {
      const cut = fill(setting, [rows], 15);
      forget(cut, 0, row + 1);
      const found = paged(isa, setting, cut, queries(q, row, 1), [{ s: 0, rows: 1, context: row + 1 }]);
      expectSameRows(found, 0, whole, row * heads * 48, heads * 48, `row ${row}`);
    }
  });

  test.each([1, 3])('%d key-value heads: tiles computed apart by several threads give the bits of one', (kvHeads) => {
    const setting: Setting = { ...plain, heads: 3, kvHeads, kv: kvHeads === 1 ? 'bf16' : 'f32' };
    const contexts = [2300, 700];
    const cache = fill(setting, contexts, 9);
    const q = seeded([3, 3, 16], 10);
    for (const window of [0, 600]) {
      const windowed = { ...setting, attrs: { window } };
      const sequences = [
        { s: 0, rows: 2, context: 2300, hi: [2299, 2300] },
        ...(kvHeads === 1 ? [{ s: 1, rows: 1, context: 700 }] : []),
      ];
      const rows = kvHeads === 1 ? 3 : 2;
      const one = paged(isa, windowed, cache, queries(q, 0, rows), sequences, 1);
      for (const threads of [2, 3, 5]) {
        const found = paged(isa, windowed, cache, queries(q, 0, rows), sequences, threads);
        expectSameRows(found, 0, one, 0, rows * 72, `${threads} threads, window ${window}`);
      }
    }
  });
});

/** What lies from `position` on becomes NaN: a later step will write it. */
function forget(cache: Cache, s: number, position: number): void {
  const { kvHeads, dk, dv, blockSize } = cache.setting;
  for (let p = position; p < cache.contexts[s]!; p++) {
    for (let h = 0; h < kvHeads; h++) {
      const row = (cache.tables[s]![Math.floor(p / blockSize)]! * kvHeads + h) * blockSize + (p % blockSize);
      cache.k.fill(nan, row * dk, (row + 1) * dk);
      cache.v.fill(nan, row * dv, (row + 1) * dv);
    }
  }
}

describe.each(isas)('attention on %s', (isa) => {
  test.each(['f32', 'bf16'] as const)('%s: a value that a row does not see may be NaN', (kv) => {
    const setting: Setting = { ...plain, kv };
    const cache = fill(setting, [40], 7);
    const q = seeded([40, 4, 16], 8);
    const clean = paged(isa, setting, cache, q, [{ s: 0, rows: 40, context: 40 }]);
    forget(cache, 0, 35);
    const found = paged(isa, setting, cache, q, [{ s: 0, rows: 40, context: 40 }]);
    expectSameRows(found, 0, clean, 0, 35 * 4 * 24, 'rows before the first NaN');
    expect((found.data as Float32Array).subarray(35 * 4 * 24).every(Number.isNaN)).toBe(true);
  });

  test('int8: the bits of a bf16 cache that holds what quants and scales say', () => {
    for (const [rows, context, dk, dv] of [
      [1, 300, 16, 24],
      [40, 300, 64, 64],
      [130, 530, 20, 36],
    ] as const) {
      const setting: Setting = { ...plain, dk, dv, kv: 'i8' };
      const cache = fill(setting, [context], 11);
      const q = seeded([rows, 4, dk], 12);
      const asked = [{ s: 0, rows, context }];
      const found = paged(isa, setting, cache, q, asked);
      cache.k.set(quantised(f32([cache.k.length / dk, dk], cache.k)).said);
      cache.v.set(quantised(f32([cache.v.length / dv, dv], cache.v)).said);
      const wide = paged(
        isa,
        { ...setting, kv: 'bf16' },
        Object.assign(cache, { setting: { ...setting, kv: 'bf16' } }),
        q,
        asked,
      );
      expectSameRows(found, 0, wide, 0, rows * 4 * dv, `${rows} rows of ${context}`);
    }
  });

  test.each(['f32', 'bf16'] as const)('varlen agrees with paged attention over %s bit for bit', (kv) => {
    // A segment is a sequence of its own; positions count from its start.
    const setting: Setting = { ...plain, dk: 24, dv: 40, kv };
    const lengths = [5, 0, 270, 33];
    const cache = fill(setting, lengths, 11);
    const tokens = lengths.reduce((a, b) => a + b, 0);
    const q = seeded([tokens + 2, 4, 24], 12);
    const join = (data: Float32Array[], width: number): NativeTensor => {
      const all = new Float32Array((tokens + 2) * 2 * width).fill(nan);
      let at = 2 * width;
      for (const each of data) {
        all.set(each, at);
        at += each.length;
      }
      return f32([tokens + 2, 2, width], all);
    };
    const borders = lengths.reduce((all, length) => [...all, all.at(-1)! + length], [1]);
    for (const causal of [0, 1]) {
      const found = native.runOp(
        isa,
        'attention_varlen',
        [q, join(cache.keys, 24), join(cache.values, 40), i32(borders)],
        out([tokens + 2, 4, 40]),
        { scale: 0.2, causal, bf16: kv === 'bf16' ? 1 : 0 },
      )[0]!;
      const all = found.data as Float32Array;
      expect([...all.subarray(0, 160), ...all.subarray((tokens + 1) * 160)].every((x) => x === 0)).toBe(true);
      lengths.forEach((rows, s) => {
        if (rows === 0) return;
        const hi = causal ? undefined : new Array<number>(rows).fill(rows);
        const other = paged(
          isa,
          { ...setting, attrs: { scale: 0.2 } },
          cache,
          queries(q, borders[s]!, rows),
          [{ s, rows, context: rows, ...(hi ? { hi } : {}) }],
          1,
        );
        expectSameRows(found, borders[s]! * 160, other, 0, rows * 160, `segment ${s}`);
      });
    }
  });

  test('varlen of rank 4, of one segment, of no rows; borders are checked', () => {
    const q = seeded([2, 20, 3, 8], 13);
    const attrs = { scale: 0.3 };
    const run = (backend: string, shape: number[]) => {
      const x = { ...q, shape };
      return native.runOp(backend, 'attention_varlen', [x, x, x], out(shape), attrs)[0]!;
    };
    for (const shape of [
      [2, 20, 3, 8],
      [40, 3, 8],
    ]) {
      const found = run(isa, shape).data as Float32Array;
      const expected = run('ref', shape).data as Float32Array;
      // The weights of a softmax add up to 1: the error is a few units of the largest value, here below 64.
      found.forEach((x, i) => expect(Math.abs(x - expected[i]!)).toBeLessThan(64 * 8 * eps));
    }
    const none = f32([0, 3, 8], new Float32Array());
    expect(native.runOp(isa, 'attention_varlen', [none, none, none], out([0, 3, 8]), attrs)[0]!.shape).toEqual([
      0, 3, 8,
    ]);
    const x = { ...q, shape: [40, 3, 8] };
    expect(() => native.runOp(isa, 'attention_varlen', [x, x, x, i32([0, 30, 20])], out([40, 3, 8]), attrs)).toThrow(
      /ascending borders from 0 to 40 for 'cu_seqlens'/,
    );
  });
});

test('a cache in bytes has rows of a scale and a multiple of four quants', () => {
  const setting: Setting = { ...plain, kv: 'i8' };
  const cache = fill(setting, [3], 1);
  const q = seeded([1, 4, 16], 2);
  const step = cache.step([{ s: 0, rows: 1, context: 3 }]);
  const run = (bytes: number): unknown => {
    const shape = [...step.k.shape.slice(0, 3), bytes];
    const k = { ...step.k, shape, data: new Int8Array(shape.reduce((a, b) => a * b)) };
    return native.runOp(
      'ref',
      'attention_paged',
      [q],
      out([1, 4, 24]),
      { layer: 0, scale: 1 },
      { step: { ...step, k } },
    );
  };
  expect(run(20)).toBeDefined();
  for (const bytes of [3, 4, 18])
    expect(() => run(bytes)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
});
