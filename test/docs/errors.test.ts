/** docs/errors.md knows every code that the sources can produce, and no other. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../models/fixtures';

/** Codes of Node itself that the sources look at. */
const foreign = new Set([
  'ERR_UNKNOWN_FILE_EXTENSION',
  'ERR_BUFFER_TOO_LARGE',
  'ERR_ACCESS_DENIED',
  'ERR_DLOPEN_DISABLED',
]);

function codesIn(text: string): Set<string> {
  return new Set(text.match(/\bERR_[A-Z0-9]+(?:_[A-Z0-9]+)*\b/g));
}

/** A code counts where it stands in quotes: comments may name families of codes. */
function codesOfSources(folder: string, pattern: RegExp): Set<string> {
  const found = new Set<string>();
  for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !pattern.test(entry.name) || /native\/(test|ptx)/.test(entry.parentPath)) continue;
    const text = readFileSync(join(entry.parentPath, entry.name), 'utf8');
    for (const quoted of text.match(/(['"`])ERR_[A-Z0-9_]+\1/g) ?? []) found.add(quoted.slice(1, -1));
  }
  return found;
}

test('every error code is documented', () => {
  const sources = new Set([...codesOfSources('lib', /\.ts$/), ...codesOfSources('native', /\.(cc|h|cu|def)$/)]);
  for (const code of foreign) sources.delete(code);
  expect(sources.size).toBeGreaterThan(80);
  const page = codesIn(readFileSync(join(root, 'docs', 'errors.md'), 'utf8'));
  expect({
    undocumented: [...sources].filter((code) => !page.has(code)).sort(),
    unknown: [...page].filter((code) => !sources.has(code)).sort(),
  }).toEqual({ undocumented: [], unknown: [] });
});
