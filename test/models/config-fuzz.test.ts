/** One change of each field of every family's configuration; `npm run test:shared` tries all of them. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { configFiles, fuzzConfig } from './config-fuzz';
import { fixtureModels } from './fixtures';

const folders = readdirSync(fixtureModels).filter((name) => existsSync(join(fixtureModels, name, 'config.json')));

test.each(folders)('%s', async (name) => {
  for (const file of configFiles) {
    if (!existsSync(join(fixtureModels, name, file))) continue;
    const { tried, bad } = await fuzzConfig(join(fixtureModels, name), file, 1);
    expect(tried).toBeGreaterThan(0);
    expect({ file, bad }).toEqual({ file, bad: [] });
  }
});
