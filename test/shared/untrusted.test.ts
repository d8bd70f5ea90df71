/** 10^5 texts, each of which spells every special token, through all reference tokenizers: none gives a reserved id. */
import fc from 'fast-check';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '../../dist/tokenizer';
import { shared } from '../media/pictures';

const folder = join(shared, 'golden', 'tokenizers');
const names = readdirSync(folder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);
const texts = 100_000;

test('all tokenizers are here', () => {
  expect(names.length).toBeGreaterThanOrEqual(9);
});

test.each(names)('%s', async (name) => {
  const tokenizer = await Tokenizer.load(join(folder, name));
  // The model's own unknown token is no reserved one: any text may contain what it stands for.
  const reserved = [...tokenizer.specialTokenIds].filter((id) => !/^(<unk>|\[UNK\])$/.test(tokenizer.idToToken(id)!));
  const ids = new Set(reserved);
  const special = reserved.map((id) => tokenizer.idToToken(id)!);
  expect(special.length).toBeGreaterThan(0);
  const filler = fc.array(fc.string({ unit: 'binary', maxLength: 4 }), {
    minLength: special.length + 1,
    maxLength: special.length + 1,
  });
  const order = fc.shuffledSubarray(special, { minLength: special.length, maxLength: special.length });
  fc.assert(
    fc.property(order, filler, (spelled, between) => {
      const text = between.map((part, i) => part + (spelled[i] ?? '')).join('');
      const found = tokenizer.encode(text, { addSpecialTokens: false, allowSpecial: false });
      return !found.some((id) => ids.has(id));
    }),
    { numRuns: Math.ceil(texts / names.length) },
  );
});
