/** `ocelli inspect` and `ocelli chat` on each golden folder. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../cli/run';
import { shared } from '../media/pictures';

const models = join(shared, 'golden/models');
const folders = readdirSync(models, { withFileTypes: true }).filter((f) => f.isDirectory());

test.each(folders.map((f) => f.name))('%s', (name) => {
  const folder = join(models, name);
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as {
    architectures: string[];
    vision_config?: object;
  };
  const inspected = run(['inspect', folder, '--json']);
  expect(inspected).toMatchObject({ status: 0, stderr: '' });
  const { architecture, images } = JSON.parse(inspected.stdout) as {
    architecture: string;
    images: { maxTokens: number; example: { tokens: number } } | null;
  };
  expect(config.architectures).toContain(architecture);
  expect(images !== null).toBe(config.vision_config !== undefined);
  if (images) expect(images.example.tokens).toBeGreaterThan(0);
  if (images) expect(images.maxTokens).toBeGreaterThanOrEqual(images.example.tokens);

  const picture = images ? [join(shared, 'golden/images/china.jpg')] : [];
  const chat = run([
    'chat',
    ...picture,
    'What is here?',
    '--model',
    folder,
    '--max-tokens',
    '4',
    '--ignore-eos',
    '--json',
  ]);
  expect(chat).toMatchObject({ status: 0, stderr: '' });
  const { tokenIds, usage } = JSON.parse(chat.stdout) as { tokenIds: number[]; usage: { imageTokens: number } };
  expect(tokenIds).toHaveLength(4);
  expect(usage.imageTokens > 0).toBe(images !== null);
});
