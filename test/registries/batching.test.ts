/** MultiModalKwargs.batch: the stacking rules that v0.6.3's tests/multimodal/test_base.py asserts. */
import { MultiModalKwargs, Tensor } from '../../dist/index';

const ones = (...shape: number[]): Tensor =>
  new Tensor('float32', shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1));

/** Shapes of tensors, lists as lists. */
function shapesOf(value: unknown): unknown {
  return Array.isArray(value) ? value.map(shapesOf) : (value as Tensor).shape.join('x');
}

const batch = (...values: unknown[]): unknown =>
  shapesOf(MultiModalKwargs.batch(values.map((image) => ({ image }))).image);

test.each<[string, unknown[], unknown]>([
  ['a single tensor gets a dimension', [ones(1, 2)], '1x1x2'],
  ['equal shapes are stacked', [ones(1, 1, 2), ones(1, 1, 2), ones(1, 1, 2)], '3x1x1x2'],
  ['differing shapes stay a list', [ones(1, 2, 2), ones(1, 3, 2), ones(1, 4, 2)], ['1x2x2', '1x3x2', '1x4x2']],
  ['lists of one are stacked twice', [[ones(1, 2)], [ones(1, 2)], [ones(1, 2)]], '3x1x1x2'],
  ['lists of differing lengths stay a list of stacks', [[ones(2), ones(2)], [ones(2)]], ['2x2', '1x2']],
  [
    'lists of one length are stacked whole',
    [
      [ones(2), ones(2)],
      [ones(2), ones(2)],
    ],
    '2x2x2',
  ],
  ['mixed depths keep their structure', [[ones(1, 2), ones(1, 3)], [ones(1, 2)]], [['1x2', '1x3'], '1x1x2']],
])('%s', (_, values, expected) => {
  expect(batch(...values)).toEqual(expected);
});

test('keys are the union: a request without one is not in its list', () => {
  const batched = MultiModalKwargs.batch([{ a: ones(2), b: ones(3) }, { a: ones(2) }]);
  expect(shapesOf(batched.a)).toBe('2x2');
  expect(shapesOf(batched.b)).toBe('1x3');
  expect(Object.keys(MultiModalKwargs.batch([]))).toEqual([]);
});

test('values keep their order and their bytes; numbers become tensors', () => {
  const row = (...values: number[]): Tensor => new Tensor('float32', [values.length], Float32Array.from(values));
  const stacked = MultiModalKwargs.batch([{ a: row(1, 2) }, { a: row(3, 4) }]).a as Tensor;
  expect([...(stacked.data as Float32Array)]).toEqual([1, 2, 3, 4]);
  expect(new MultiModalKwargs({ n: 7, x: 0.5, absent: undefined })).toMatchObject({
    n: { dtype: 'int64', shape: [] },
    x: { dtype: 'float32', shape: [] },
  });
  expect('absent' in new MultiModalKwargs({ absent: undefined })).toBe(false);
});
