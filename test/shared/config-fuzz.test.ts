/** Every change of every field of every golden folder's configuration. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { configFiles, fuzzConfig } from '../models/config-fuzz';
import { shared } from '../media/pictures';

const models = join(shared, 'golden/models');
const folders = readdirSync(models, { withFileTypes: true }).filter((f) => f.isDirectory());
const files = folders.flatMap(({ name }) =>
  configFiles.filter((file) => existsSync(join(models, name, file))).map((file) => [name, file] as const),
);

test.each(files)('%s, %s', async (name, file) => {
  const { tried, bad } = await fuzzConfig(join(models, name), file, true);
  expect(tried).toBeGreaterThan(20);
  expect(bad).toEqual([]);
});
