/** Three changes, others for each family, of every field of every golden folder's configuration: all of them take minutes. */
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
  const { tried, bad } = await fuzzConfig(join(models, name), file, 3);
  expect(tried).toBeGreaterThan(3);
  expect(bad).toEqual([]);
});
