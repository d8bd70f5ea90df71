import {
  Embedding,
  Linear,
  Module,
  RMSNorm,
  VisionAttention,
  act,
  add,
  addMultimodal,
  concat,
  dumpProgram,
  encoderOutput,
  expand,
  gatherRows,
  linear,
  mergeMultimodal,
  mergedLinear,
  mul,
  patchify,
  reshape,
  slice,
  split,
  traceModel,
  type ForwardInputs,
  type InputSpecs,
  type LinearOptions,
  type Value,
} from '../../dist/nn';
import { TinyText, errorOf, forwardOf } from './models';

test('a text model leaves a program of plain data', () => {
  const { text, vocabSize, encoders, kvLayers, featureWidth } = traceModel(TinyText, {});
  expect(JSON.parse(JSON.stringify(text))).toEqual(text);
  expect(dumpProgram(text)).toBe(
    [
      'program text(T, S)',
      '  input inputIds: i32[T] (tokens)',
      '  input sampleRows: i32[S] (rowIndex)',
      '  weight embed.weight: [10, 8]',
      '  weight head.weight: [10, 8] linear',
      '  # embed',
      '  %2: act[T, 8] = gather_rows(embed.weight, inputIds)',
      '  # forward',
      '  %4: act[S, 8] = gather_rows(%2, sampleRows)',
      '  # head',
      '  %6: act[S, 10] = linear(%4, head.weight, -)',
      '  output logits = %6: act[S, 10]',
      '  output hidden = %2: act[T, 8]',
      '',
    ].join('\n'),
  );
  expect({ vocabSize, encoders, kvLayers, featureWidth }).toEqual({
    vocabSize: 10,
    encoders: [],
    kvLayers: 0,
    featureWidth: 0,
  });
  expect(text.taps).toEqual({ embed: 2, head: 6 });
});

test('parameters are named by attributes, arrays by index, shared ones once', () => {
  class Net extends Module {
    readonly embed = new Embedding(4, 2);
    readonly blocks = [new Linear(2, 3), new RMSNorm(3, { eps: 1e-5 })];
    readonly head = new Linear(2, 4, { bias: false, weight: this.embed.weight });
    readonly plain = 3;
    forward(): void {}
  }
  expect([...new Net().namedParameters().keys()]).toEqual([
    'embed.weight',
    'blocks.0.weight',
    'blocks.0.bias',
    'blocks.1.weight',
  ]);
});

test('merged linear layers keep their checkpoint names', () => {
  class Net extends Module {
    readonly embed = new Embedding(4, 2);
    readonly q = new Linear(2, 3);
    readonly k = new Linear(2, 1);
    forward({ inputIds }: ForwardInputs): Value {
      const [a, b] = split(mergedLinear(this.embed.forward(inputIds), [this.q, this.k]), [3, 1]) as [Value, Value];
      return concat([a, b], 1);
    }
  }
  const { text } = traceModel(Net, {});
  expect(text.weights.slice(1)).toEqual([
    { name: '{q,k}.bias', shape: [4], parts: ['q.bias', 'k.bias'], value: expect.any(Number) },
    { name: '{q,k}.weight', shape: [4, 2], linear: true, parts: ['q.weight', 'k.weight'], value: expect.any(Number) },
  ]);
});

test('a gate halves the width of a product, and takes no activation beside it nor an odd number of rows', () => {
  const forward = (rows: number, options: LinearOptions) =>
    class Net extends Module {
      readonly embed = new Embedding(4, 2);
      readonly gate = new Linear(2, 3, { bias: false });
      readonly up = new Linear(2, rows, { bias: false });
      forward({ inputIds }: ForwardInputs): Value {
        return mergedLinear(this.embed.forward(inputIds), [this.gate, this.up], options);
      }
    };
  expect(dumpProgram(traceModel(forward(3, { gate: 'silu' }), {}).text)).toMatch(/act\[T, 3\] = linear\(.*gate.*silu/);
  for (const [rows, options] of [
    [3, { gate: 'silu', act: 'relu' }],
    [4, { gate: 'silu' }],
  ] as const) {
    const error = errorOf(() => traceModel(forward(rows, options), {}));
    expect(error.code).toBe('ERR_OPERAND');
    expect(error.message).toMatch(/linear\.(ts|js):\d+|trace\.test\.(ts|js):\d+/);
  }
});

test('a module called twice has a tap for each call', () => {
  class Net extends Module {
    readonly embed = new Embedding(4, 2);
    readonly norm = new RMSNorm(2, { eps: 1e-5 });
    forward({ inputIds }: ForwardInputs): Value {
      return this.norm.forward(this.norm.forward(this.embed.forward(inputIds)));
    }
  }
  expect(Object.keys(traceModel(Net, {}).text.taps)).toEqual(['embed', 'norm', 'norm#1']);
});

test('the methods of a traced model are its own again', () => {
  const model = new TinyText();
  traceModel(
    class {
      constructor() {
        return model;
      }
    } as never,
    {},
  );
  expect(Object.hasOwn(model.embed, 'forward')).toBe(false);
});

describe('the border', () => {
  test('what features are made of is the encoder; equal forms leave one text program', () => {
    class Net extends Module {
      static inputs = (): InputSpecs => ({
        pixels: { dtype: 'float32', shape: ['N', 3, 4, 4] },
        embeds: { dtype: 'float32', shape: ['L', 8] },
      });
      static forms = [['pixels'], ['embeds'], []];
      readonly tower = new Linear(12, 8);
      readonly embed = new Embedding(10, 8);
      readonly head = new Linear(8, 10, { bias: false });
      forward({ inputIds, pixels, embeds }: ForwardInputs): Value {
        const features = pixels ? this.tower.forward(patchify(pixels as Value, 2)) : (embeds as Value | undefined);
        return mergeMultimodal(this.embed.forward(inputIds), inputIds, features, 9);
      }
      computeLogits(hidden: Value): Value {
        return this.head.forward(hidden);
      }
    }
    const traced = traceModel(Net, {});
    expect(traced.encoders.map((e) => [e.form, e.program === null])).toEqual([
      [['pixels'], false],
      [['embeds'], true],
    ]);
    expect(traced.placeholderTokenIds).toEqual({ image: 9 });
    expect(traced.featureWidth).toBe(8);
    const encoder = traced.encoders[0]!.program!;
    expect(encoder.symbols).toEqual(['N']);
    expect(encoder.inputs.map((i) => i.name)).toEqual(['pixels']);
    expect(encoder.values[encoder.outputs.features!]!.shape).toEqual([{ terms: [{ sym: 'N', mul: 4 }] }, 8]);
    expect(traced.text.symbols).toEqual(['T', 'S', 'F']);
    expect(traced.text.inputs.map((i) => i.name)).toEqual(['inputIds', 'features', 'featureRows', 'sampleRows']);
    expect(dumpProgram(traced.text)).toContain('scatter_rows(%2, featureRows, features)');
  });

  test('features of later layers are further columns of a feature row', () => {
    const Net = forwardOf(['N', 8], (x) => x);
    class Deep extends Net {
      override forward(inputs: ForwardInputs): Value {
        const h = super.forward(inputs);
        return addMultimodal(act(h, 'silu'), mul(inputs.x as Value, 2));
      }
    }
    const traced = traceModel(Deep, {});
    expect(traced.featureWidth).toBe(16);
    const dump = dumpProgram(traced.text);
    expect(dump).toContain('features[:, 0:8]');
    expect(dump).toMatch(/scatter_rows\(%\d+, featureRows, features\[:, 8:16\], add=1\)/);
    expect(dumpProgram(traced.encoders[0]!.program!)).toContain('act[N, 16] = concat(');
  });

  test('encoderOutput ends the encoder; what follows is text', () => {
    const traced = traceModel(
      forwardOf(['N', 8], (x) => act(encoderOutput(mul(x, 2)), 'gelu')),
      {},
    );
    expect(traced.encoders[0]!.program!.ops.map((o) => o.op)).toEqual(['mul']);
    expect(traced.text.ops.map((o) => o.op)).toEqual(['gather_rows', 'act', 'scatter_rows']);
  });

  test('an encoder that reads text is refused', () => {
    const Net = forwardOf([10, 8], (x, { inputIds }) => gatherRows(x, inputIds));
    const error = errorOf(() => traceModel(Net, {}));
    expect(error.code).toBe('ERR_TRACE_BORDER');
    expect(error.message).toContain('gather_rows in forward reads inputIds');
  });

  test('text that reads pictures beside the border is refused', () => {
    const Net = forwardOf([8], (x) => reshape(x, [1, 8]));
    class Leak extends Net {
      override forward(inputs: ForwardInputs): Value {
        return add(super.forward(inputs), inputs.x as Value);
      }
    }
    expect(errorOf(() => traceModel(Leak, {})).code).toBe('ERR_TRACE_BORDER');
  });

  test('forms that leave different text programs are refused', () => {
    class Net extends Module {
      static inputs = (): InputSpecs => ({ x: { dtype: 'float32', shape: ['N', 8] } });
      static forms = [['x'], []];
      readonly embed = new Embedding(10, 8);
      forward({ inputIds, x }: ForwardInputs): Value {
        const h = this.embed.forward(inputIds);
        return x ? act(mergeMultimodal(h, inputIds, x as Value, 9), 'silu') : h;
      }
    }
    expect(errorOf(() => traceModel(Net, {})).code).toBe('ERR_TRACE_FORMS');
    class Same extends Net {
      override forward({ inputIds, x }: ForwardInputs): Value {
        const h = this.embed.forward(inputIds);
        return act(x ? mergeMultimodal(h, inputIds, x as Value, 9) : h, 'silu');
      }
    }
    expect(traceModel(Same, {}).featureWidth).toBe(8);
  });
});

describe('an author sees', () => {
  test.each<[string, (x: Value) => Value, string]>([
    ['a wrong width', (x) => linear(x, [] as never), 'ERR_'],
    ['a product of tensors', (x) => ((x as unknown as number) * 2) as unknown as Value, 'ERR_SYMBOLIC'],
    ['a decision by size', (x) => ((x.shape[0] as number) > 1 ? x : x), 'ERR_SYMBOLIC'],
    ['a bad slice', (x) => slice(x, 1, 0, 9), 'ERR_SHAPE'],
    ['a bad split', (x) => split(x, [3, 4])[0]!, 'ERR_SHAPE'],
    ['a bad reshape', (x) => reshape(x, [-1, 7]), 'ERR_SHAPE'],
    ['a bad expansion', (x) => expand(x, [3, 8]), 'ERR_SHAPE'],
    ['unequal operands', (x) => add(x, slice(x, 1, 0, 4)), 'ERR_SHAPE'],
    ['an unknown activation', (x) => act(x, 'mish' as never), 'ERR_ACTIVATION'],
    ['undefined as an operand', () => add(undefined as never, 1), 'ERR_OPERAND'],
    ['features of another width', (x) => slice(x, 1, 0, 4), 'ERR_SHAPE'],
    ['not a number', (x) => mul(x, NaN), 'ERR_OPERAND'],
  ])('%s with the line of the mistake', (_, body, code) => {
    const error = errorOf(() => traceModel(forwardOf(['N', 8], body), {}));
    expect(error.code ?? 'ERR_').toContain(code);
    if (code !== 'ERR_') expect(error.message).toMatch(/(trace\.test|models)\.(ts|js):\d+/);
  });

  test('ops outside a trace', () => {
    expect(errorOf(() => concat([], 0)).code).toBe('ERR_OPERAND');
    let kept: Value | undefined;
    traceModel(
      forwardOf(['N', 8], (x) => (kept = x)),
      {},
    );
    expect(errorOf(() => act(kept!, 'silu')).code).toBe('ERR_NO_TRACE');
    expect(
      errorOf(() =>
        traceModel(
          forwardOf(['N', 8], () => act(kept!, 'silu')),
          {},
        ),
      ).code,
    ).toBe('ERR_TRACE');
  });

  test.each<[string, InputSpecs]>([
    ['a reserved name', { features: { dtype: 'float32', shape: ['N', 8] } }],
    ['a reserved symbol', { x: { dtype: 'float32', shape: ['T', 8] } }],
    ['an unknown dtype', { x: { dtype: 'float64' as never, shape: ['N', 8] } }],
    ['a size of 0', { x: { dtype: 'float32', shape: [0] } }],
    ['an index of nothing', { x: { dtype: 'int32', shape: ['N'], kind: 'rowIndex', of: 'y' } }],
  ])('%s in static inputs', (_, specs) => {
    class Net extends TinyText {
      static inputs = (): InputSpecs => specs;
    }
    expect(errorOf(() => traceModel(Net, {})).code).toBe('ERR_MODEL_CLASS');
  });
});

test('views', () => {
  const shapes: string[] = [];
  const Net = forwardOf(['N', 4, 6], (x) => {
    const note = (v: Value): Value => (shapes.push(v.shape.map(String).join(' ')), v);
    note(reshape(x, [-1, 8]));
    note(reshape(x, [x.shape[0]!, 2, -1]));
    note(slice(x, 2, -2));
    note(expand(reshape(slice(x, 1, 0, 1), [x.shape[0]!, 1, 6]), [x.shape[0]!, 5, 6]));
    note(reshape(x, [x.shape[0]!, 24]));
    return reshape(slice(note(reshape(x, [-1, 3])), 0, 0, 1), [1, 3]).rank === 2
      ? slice(reshape(x, [x.shape[0]!, 24]), 1, 0, 8)
      : x;
  });
  traceModel(Net, {});
  expect(shapes).toEqual(['3*N 8', 'N 2 12', 'N 4 2', 'N 5 6', 'N 24', '8*N 3']);
});

test('a model in bfloat16 has the keys and values of its encoders rounded', () => {
  const attrs = (dtype?: 'float32' | 'bfloat16' | 'float16') =>
    traceModel(
      forwardOf([1, 'N', 1, 8], (x) => reshape(new VisionAttention(8).forward(x, x, x), [x.dim(1), 8])),
      {},
      dtype,
    ).encoders[0]!.program!.ops.find(({ op }) => op === 'attention_varlen')!.attrs;
  expect(attrs('bfloat16')).toMatchObject({ bf16: 1 });
  for (const dtype of [undefined, 'float32', 'float16'] as const) expect(attrs(dtype)).not.toHaveProperty('bf16');
});
