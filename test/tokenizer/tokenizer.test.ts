import fc from 'fast-check';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DetokenizeStream, Tokenizer } from '../../dist/tokenizer';

const folder = join(process.cwd(), 'test', 'fixtures', 'tokenizers');

interface Golden {
  cases: { text?: string; utf16?: number[]; ids: number[]; with_special?: number[]; decoded: string }[];
  streams: { ids: number[]; skip_special?: boolean; pieces: (string | null)[]; error?: string }[];
}

describe.each(['llama3_style', 'gemma_style'])('%s', (name) => {
  const golden = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as Golden;
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await Tokenizer.load(join(folder, name));
  });

  test('ids, text and streams equal the reference', () => {
    for (const c of golden.cases) {
      const text = c.utf16 ? String.fromCharCode(...c.utf16) : c.text!;
      expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(c.ids);
      expect(tokenizer.decode(c.with_special ?? c.ids, { skipSpecialTokens: false })).toBe(c.decoded);
    }
    for (const s of golden.streams.filter((stream) => stream.error === undefined)) {
      const stream = new DetokenizeStream(tokenizer, { skipSpecialTokens: s.skip_special ?? false });
      expect(s.ids.map((id) => stream.push(id) || null)).toEqual(s.pieces);
    }
  });

  test('untrusted text never gives a reserved id', () => {
    const special = [...tokenizer.specialTokenIds].map((id) => tokenizer.idToToken(id)!);
    const part = fc.oneof(fc.constantFrom(...special), fc.string({ unit: 'binary', maxLength: 6 }));
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
        const ids = tokenizer.encode(parts.join(''), { addSpecialTokens: false, allowSpecial: false });
        const unk = tokenizer.tokenToId('<unk>');
        return ids.every((id) => id === unk || !tokenizer.specialTokenIds.has(id));
      }),
      { numRuns: 2000 },
    );
  });

  test('a chat tokenizes the template’s tokens, not those that messages spell', async () => {
    const special = [...tokenizer.specialTokenIds].map((id) => tokenizer.idToToken(id)!).filter((t) => t !== '<unk>');
    const [first] = special as [string];
    const chatTemplate = `{% for m in messages %}${first}{{ m.content }}{% endfor %}`;
    const { text, ids } = await tokenizer.renderChat([{ role: 'user', content: `a ${special.join('')} b` }], {
      chatTemplate,
    });
    expect(text).toBe(`${first}a ${special.join('')} b`);
    expect(ids.filter((id) => special.includes(tokenizer.idToToken(id)!))).toEqual([tokenizer.tokenToId(first)]);
  });

  test('parts give the ids of the whole', () => {
    for (const c of golden.cases) {
      const text = c.utf16 ? String.fromCharCode(...c.utf16) : c.text!;
      for (const addSpecialTokens of [true, false]) {
        const parts = tokenizer.segments(text, { addSpecialTokens });
        expect(tokenizer.encodeSegments(parts)).toEqual(tokenizer.encode(text, { addSpecialTokens }));
      }
    }
  });

  test('an untrusted part spells no special token, ids stay what they are', () => {
    const id = [...tokenizer.specialTokenIds][0]!;
    const spelling = tokenizer.idToToken(id)!;
    const ids = (trusted: boolean) => tokenizer.encodeSegments([{ ids: [id] }, { text: `a${spelling}`, trusted }]);
    expect(ids(true).filter((i) => i === id)).toHaveLength(2);
    expect(ids(false).filter((i) => i === id)).toHaveLength(1);
  });

  test('a long piece without borders takes no quadratic time', () => {
    const text = 'ab'.repeat(200_000);
    const started = process.hrtime.bigint();
    expect(tokenizer.decode(tokenizer.encode(text)).endsWith('abab')).toBe(true);
    // Quadratic merging of 400,000 symbols would take minutes.
    expect(Number(process.hrtime.bigint() - started) / 1e9).toBeLessThan(20);
  });
});

test('a template that loops is stopped, and the next one renders', async () => {
  const tokenizer = await Tokenizer.load(join(folder, 'llama3_style'));
  const loop = '{% for a in range(100000) %}{% for b in range(100000) %}{{ "" }}{% endfor %}{% endfor %}';
  await expect(tokenizer.applyChatTemplate([], { chatTemplate: loop })).rejects.toMatchObject({
    code: 'ERR_CHAT_TEMPLATE',
  });
  await expect(tokenizer.applyChatTemplate([], { chatTemplate: 'ok' })).resolves.toBe('ok');
});

test('errors carry codes', async () => {
  await expect(Tokenizer.load(join(folder, 'absent'))).rejects.toMatchObject({ code: 'ERR_TOKENIZER' });
  const broken = mkdtempSync(join(tmpdir(), 'ocelli-'));
  for (const text of [
    '{',
    '[]',
    '{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}',
    '{"model":{"type":"X","vocab":{}}}',
  ]) {
    writeFileSync(join(broken, 'tokenizer.json'), text);
    await expect(Tokenizer.load(broken)).rejects.toMatchObject({ code: 'ERR_TOKENIZER' });
  }
});
