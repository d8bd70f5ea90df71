import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The repository's root, from the compiled tests as from their sources. */
export const root = ((): string => {
  let folder = __dirname;
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
})();

export const fixtureModels = join(root, 'test', 'fixtures', 'models');
