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
