/** Pictures in messages: where their placeholders go, and how many there may be (v0.6.3's tests/entrypoints/test_chat_utils.py). */
import { join } from 'node:path';
import { LLM, Tokenizer, type ContentPart, type Message } from '../../dist/index';
import { fixtureModels } from '../models/fixtures';
import { codeOf, picture } from './support';

const folder = join(fixtureModels, 'llava-1.5');
const image = (): ContentPart => ({ type: 'image', image: picture(8, 8) });
const text = (value: string): ContentPart => ({ type: 'text', text: value });
const user = (...content: ContentPart[]): Message[] => [{ role: 'user', content }];

describe('a template that takes text only', () => {
  const chatTemplate = '{% for m in messages %}[{{ m.content }}]{% endfor %}';
  const render = async (...content: ContentPart[]): Promise<string> => {
    const parts = content.map((p) => (p.type === 'text' ? p : { type: 'image' }));
    const tokenizer = await Tokenizer.load(folder);
    return (
      await tokenizer.renderChat([{ role: 'user', content: parts } as never], { chatTemplate }, { image: '<image>' })
    ).text;
  };

  test('gets missing placeholders in front, joined by newlines', async () => {
    expect(await render(text('What is this?'), image())).toBe('[<image>\nWhat is this?]');
    expect(await render(image(), text('a'), image(), text('b'))).toBe('[<image>\n<image>\na\nb]');
  });

  test('a placeholder that message text spells is text: it never takes a picture’s place', async () => {
    expect(await render(text('<image> here'), image())).toBe('[<image>\n<image> here]');
    const llm = await LLM.load(folder, { limitMmPerPrompt: { image: 2 } });
    try {
      const counts = await llm.countTokens(user(text('<image> here'), image()));
      expect(counts.image).toBe(16);
    } finally {
      await llm.dispose();
    }
  });
});

describe('a template that takes parts only', () => {
  const chatTemplate = `{% for m in messages %}{{ m.role }}:{% for p in m.content %}{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %};{% endfor %}`;
  const messages = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: [{ type: 'image' }, { type: 'text', text: 'What?' }] },
    { role: 'assistant', content: 'A cat.' },
  ];

  test('gets a text as its one part', async () => {
    const tokenizer = await Tokenizer.load(folder);
    const { text: rendered } = await tokenizer.renderChat(messages, { chatTemplate });
    expect(rendered).toBe('system:Be brief.;user:<image>What?;assistant:A cat.;');
    expect((await tokenizer.renderChat([messages[0]!], { chatTemplate })).text).toBe('system:Be brief.;');
  });

  test('its checkpoint begins a chat as its processor does: with the BOS, once', async () => {
    const llm = await LLM.load(folder);
    const ids = async (template: string): Promise<number[]> =>
      (await llm.chat([{ role: 'user', content: 'hi' }], { maxTokens: 1 }, { chatTemplate: template })).promptTokenIds;
    const begun = llm.tokenizer.encode('user:hi;');
    expect(begun[0]).toBe(llm.tokenizer.bosTokenId);
    expect(await ids(chatTemplate)).toEqual(begun);
    expect(await ids(`<s>${chatTemplate}`)).toEqual(llm.tokenizer.encode('<s>user:hi;', { addSpecialTokens: false }));
    const { promptTokenIds } = await llm.generate('<s>user:hi;', { maxTokens: 1 });
    expect(promptTokenIds.filter((id) => id === begun[0])).toHaveLength(1);
    await llm.dispose();
  });
});

test('more pictures than the limit: the error says how many may be sent and what to change', async () => {
  const llm = await LLM.load(folder, { limitMmPerPrompt: { image: 2 } });
  try {
    await expect(llm.chat(user(image(), image(), image(), text('?')))).rejects.toMatchObject({
      code: 'ERR_MM_LIMIT',
      message: 'Expected at most 2 image items in one prompt but received 3',
      hint: expect.stringContaining('limitMmPerPrompt: { image: 3 }'),
    });
    expect((await llm.chat(user(image(), image(), text('?')), { maxTokens: 1 })).usage.imageTokens).toBe(32);
    expect(await codeOf(() => llm.chat(user({ type: 'audio' } as never)))).toBe('ERR_MESSAGES');
  } finally {
    await llm.dispose();
  }
});
