/** Every case of every golden folder through the whole engine, all of a folder at once: ids, greedy tokens, and chats as their prompts. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { LLM, Tensor, type Message, type Prompt, type RequestOutput } from '../../dist/index';
import { readGoldenFolder, type GoldenCase } from '../goldens/folder';
import { shared } from '../media/pictures';

const models = join(shared, 'golden/models');
const folders = readdirSync(models, { withFileTypes: true }).filter((f) => f.isDirectory());
const greedy = { temperature: 0, maxTokens: 24, ignoreEos: true } as const;

test.each(folders.map((f) => f.name))('%s', async (name) => {
  const folder = readGoldenFolder(join(models, name));
  const pictures = folder.cases.some((c) => c.images.length > 0 || c.image_embeds !== undefined);
  const llm = await LLM.load(folder.path, {
    dtype: 'float32',
    allowedLocalMediaPath: join(shared, 'golden/images'),
    ...(pictures ? { limitMmPerPrompt: { image: 4 } } : {}),
  });

  const kwargsOf = (c: GoldenCase): Record<string, unknown> => ({
    ...c.processor_kwargs,
    ...(c.flat_images ? { visionAspectRatio: llm.modelConfig.hfConfig.vision_aspect_ratio } : {}),
  });

  function promptOf(c: GoldenCase): Prompt {
    const embeds = c.image_embeds === undefined ? undefined : folder.tensor(c.image_embeds);
    const image = embeds ? new Tensor('float32', embeds.shape, embeds.data) : c.images.map(folder.picture);
    const given = embeds || c.images.length > 0 ? { multiModalData: { image } } : {};
    const media = { ...given, mmProcessorKwargs: kwargsOf(c) };
    // A prompt that begins with no BOS although the tokenizer would write one is one of ids.
    const bare = c.add_special_tokens === false && c.prompt !== null && !llm.tokenizer.spellsBos(c.prompt);
    return c.prompt === null || (bare && llm.tokenizer.encode('').length > 0)
      ? { promptTokenIds: c.prompt_token_ids, ...media }
      : { prompt: c.prompt, ...media };
  }

  function chatOf(c: GoldenCase): Promise<RequestOutput> {
    const left = c.images.map(folder.picture);
    const filled = (content: unknown): unknown =>
      Array.isArray(content)
        ? content.map((part: { type: string }) =>
            part.type === 'image' ? { type: 'image', image: left.shift() } : part,
          )
        : content;
    const messages = c.messages!.map((m) => ({ ...m, content: filled(m.content) })) as Message[];
    return llm.chat(messages, greedy, { mmProcessorKwargs: kwargsOf(c) });
  }

  await Promise.all(
    folder.cases.map(async (c) => {
      const expected = [c.name, c.input_ids, c.greedy.token_ids];
      const { promptTokenIds, outputs } = await llm.generate(promptOf(c), greedy);
      expect([c.name, promptTokenIds, outputs[0]!.tokenIds]).toEqual(expected);
      if (!c.messages) return;
      const chat = await chatOf(c);
      expect([c.name, chat.promptTokenIds, chat.outputs[0]!.tokenIds]).toEqual(expected);
    }),
  );
  await llm.dispose();
});
