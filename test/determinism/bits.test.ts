/** What tells two outputs apart, so that 0 differences mean something. */
import type { RequestOutput } from '../../dist/index';
import { bitsOf, difference } from './bits';

function output(logprob: number, tokens = [5, 6], finishReason = 'length'): RequestOutput {
  const logprobs = tokens.map((id) => new Map([[id, { logprob, rank: 1, decodedToken: '' }]]));
  return { outputs: [{ index: 0, text: '', tokenIds: tokens, logprobs, finishReason, stopReason: null }] } as never;
}
const compare = (a: RequestOutput, b: RequestOutput, cut = false): string | undefined =>
  difference(bitsOf(a), bitsOf(b), cut);

test('equal outputs have no difference', () => {
  expect(compare(output(-0.5), output(-0.5))).toBeUndefined();
  expect(compare(output(NaN), output(NaN))).toBeUndefined();
});

test('the last bit of a log-probability, the sign of zero, a token, a length and an end count', () => {
  // Half of 1's epsilon: the distance of neighbours at 0.5.
  expect(compare(output(-0.5), output(-0.5 - Number.EPSILON / 2))).toMatch(/^output 0, token 0: expected 5: 5=bfe0000/);
  expect(compare(output(0), output(-0))).toMatch(/token 0/);
  expect(compare(output(-0.5), output(-0.5, [5, 7]))).toMatch(/token 1/);
  expect(compare(output(-0.5), output(-0.5, [5]))).toMatch(/token 1: .* received none/);
  expect(compare(output(-0.5), output(-0.5, [5, 6], 'stop'))).toMatch(/ends/);
});

test('what was cut may end early but not differ', () => {
  expect(compare(output(-0.5), output(-0.5, [5], 'abort'), true)).toBeUndefined();
  expect(compare(output(-0.5), output(-0.5, [7], 'abort'), true)).toMatch(/token 0/);
  expect(compare(output(-0.5), output(-0.5, [5, 6, 7], 'abort'), true)).toMatch(/token 2/);
});
