// Every stored tokenizer, text by text: ids, decoded text, streams.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DetokenizeStream, Tokenizer } from '../../dist/tokenizer';

const folder = join(process.env.OCELLI_SHARED ?? join(process.cwd(), '..', 'shared'), 'golden', 'tokenizers');

interface Golden {
  cases: {
    text?: string;
    utf16?: number[];
    ids: number[];
    with_special?: number[];
    decoded: string;
    decoded_skip?: string;
  }[];
  streams: {
    ids: number[];
    skip_special?: boolean;
    pieces: (string | null)[];
    flush: string | null;
    error?: string;
  }[];
}

const names = [
  'added_tokens',
  'gemma_style',
  'llama3_style',
  'mistral_v1',
  'mistral_v1_metaspace',
  'qwen2',
  'smollm2',
  'unigram',
  'wordpiece',
];

describe.each(names)('%s', (name) => {
  const golden = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as Golden;
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await Tokenizer.load(join(folder, name));
  });

  test('texts', () => {
    expect(golden.cases.length).toBeGreaterThan(100);
    for (const c of golden.cases) {
      const text = c.utf16 ? String.fromCharCode(...c.utf16) : c.text!;
      expect({ text, ids: tokenizer.encode(text, { addSpecialTokens: false }) }).toEqual({ text, ids: c.ids });
      const special = c.with_special ?? c.ids;
      expect({ text, ids: tokenizer.encode(text) }).toEqual({ text, ids: special });
      expect(tokenizer.decode(special, { skipSpecialTokens: false })).toBe(c.decoded);
      expect(tokenizer.decode(special)).toBe(c.decoded_skip ?? c.decoded);
    }
  });

  test('streams', () => {
    for (const s of golden.streams.filter((stream) => stream.error === undefined)) {
      const stream = new DetokenizeStream(tokenizer, { skipSpecialTokens: s.skip_special ?? false });
      expect(s.ids.map((id) => stream.push(id) || null)).toEqual(s.pieces);
      if (s.flush !== null) expect(stream.flush()).toBe(s.flush);
    }
  });
});
