/** docs/models.md is what the registry gives today, and names every architecture and every golden folder that is there. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { knownArchitectures } from '../../dist/models/registry';
import { fixtureModels, root } from '../models/fixtures';
import { families, modelsPage } from './models-page';

test('the page is current: npm run models-page writes it', async () => {
  expect(readFileSync(join(root, 'docs', 'models.md'), 'utf8')).toBe(await modelsPage());
});

test('every architecture has a row', () => {
  expect([...new Set(families.flatMap((f) => f.architectures))].sort()).toEqual(knownArchitectures());
});

test('every family with pictures has a golden test that runs here', () => {
  for (const { name, pictures, golden } of families) {
    if (!pictures) continue;
    expect([name, golden.some((folder) => existsSync(join(fixtureModels, folder)))]).toEqual([name, true]);
  }
});
