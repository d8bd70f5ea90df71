import { resolveWeightNames, traceModel } from '../../dist/nn';
import { TinyText, errorOf } from './models';

const { text } = traceModel(TinyText, {});

test('the attribute path comes first, then each rule', () => {
  expect(resolveWeightNames([text], ['embed.weight', 'head.weight'])).toEqual({
    'embed.weight': 'embed.weight',
    'head.weight': 'head.weight',
  });
  expect(
    resolveWeightNames(
      [text],
      ['model.embed.weight', 'lm.weight'],
      [
        ['embed.', 'model.embed.'],
        ['head.', 'lm.'],
      ],
    ),
  ).toEqual({
    'embed.weight': 'model.embed.weight',
    'head.weight': 'lm.weight',
  });
});

test('an absent tensor is named with every spelling that was looked for', () => {
  const error = errorOf(() => resolveWeightNames([text], ['embed.weight', 'x.head.weight'], [['head.', 'lm.']]));
  expect(error.code).toBe('ERR_WEIGHT_MISSING');
  expect(error.message).toContain("'head.weight' or 'lm.weight'");
});
