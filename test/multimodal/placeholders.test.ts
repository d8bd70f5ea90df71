import { repeatAndPadPlaceholderTokens } from '../../dist/multimodal';

// The table of v0.6.3's tests/multimodal/test_utils.py, on ids alone and on text.
const tokenizer = {
  decode: (ids: readonly number[]): string => ids.map((id) => (id === 32000 ? '<image>' : `<${id}>`)).join(''),
};

const rows: [string, number[], number | number[], string, number[]][] = [
  ['<image>', [32000], 2, '<image><image>', [32000, 32000]],
  ['<image><image>', [32000, 32000], 2, '<image><image><image>', [32000, 32000, 32000]],
  [
    '<image><image>',
    [32000, 32000],
    [3, 2],
    '<image><image><image><image><image>',
    [32000, 32000, 32000, 32000, 32000],
  ],
  [
    'Image:<image>Image:<image>!',
    [9833, 28747, 32000, 9833, 28747, 32000, 918],
    [3, 2],
    'Image:<image><image><image>Image:<image><image>!',
    [9833, 28747, 32000, 32000, 32000, 9833, 28747, 32000, 32000, 918],
  ],
  ['<image>', [32000], [3, 2], '<image><image><image>', [32000, 32000, 32000]],
];

test.each(rows)('%s x %j', (prompt, ids, repeatCount, expectedPrompt, expectedIds) => {
  const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  const [text, expanded] = repeatAndPadPlaceholderTokens(tokenizer, prompt, ids, {
    placeholderTokenId: 32000,
    repeatCount,
  });
  expect(text).toBe(expectedPrompt);
  expect(expanded).toEqual(expectedIds);
  warned.mockRestore();
});

test('pad tokens stand on both sides of each expansion, without text too', () => {
  const [text, ids] = repeatAndPadPlaceholderTokens(tokenizer, undefined, [1, 32000, 2], {
    placeholderTokenId: 32000,
    repeatCount: [2],
    padTokenLeft: 7,
    padTokenRight: 8,
  });
  expect(text).toBeUndefined();
  expect(ids).toEqual([1, 7, 32000, 32000, 8, 2]);
});
