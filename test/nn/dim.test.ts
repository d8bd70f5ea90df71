import { SymbolicDim, addDim, divDim, mulDim, sameDim, subDim } from '../../dist/nn';
import { errorOf } from './models';

const N = SymbolicDim.of('N');
const T = SymbolicDim.of('T');

test('sizes are linear forms', () => {
  expect(String(addDim(mulDim(N, 4), addDim(T, 2)))).toBe('4*N + T + 2');
  expect(subDim(addDim(N, 3), N)).toBe(3);
  expect(String(divDim(mulDim(N, 6), 4))).toBe('3*N/2');
  expect(sameDim(divDim(mulDim(N, 4), 4), N)).toBe(true);
  expect(sameDim(N, T)).toBe(false);
  expect(JSON.parse(JSON.stringify(addDim(divDim(mulDim(N, 3), 2), 1)))).toEqual({
    c: 1,
    terms: [{ sym: 'N', mul: 3, div: 2 }],
  });
});

test('products of symbols and inexact quotients are refused', () => {
  expect(errorOf(() => mulDim(N, T)).code).toBe('ERR_DIM');
  expect(errorOf(() => divDim(7, 2)).code).toBe('ERR_DIM');
});

test.each([
  ['arithmetic', () => (N as unknown as number) + 1],
  ['a comparison', () => (N as unknown as number) > 1],
  ['a sum with text', () => '' + (N as unknown as string)],
  ['Math', () => Math.floor(N as unknown as number)],
])('%s on a symbolic size throws and names the line', (_, body) => {
  const error = errorOf(body);
  expect(error.code).toBe('ERR_SYMBOLIC');
  expect(error.message).toMatch(/dim\.test\.(ts|js):\d+/);
  expect(error.message).toContain('N');
});

test('a symbolic size still prints', () => {
  expect(`${mulDim(N, 2)}`).toBe('2*N');
});
