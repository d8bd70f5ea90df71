/** docs/options.md has a row for every option that the sources take, and no other. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../models/fixtures';

function fieldsOf(file: string, name: string): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  const body = new RegExp(`export interface ${name}\\b[^{]*\\{\\n([\\s\\S]*?)\\n\\}`).exec(text)?.[1];
  if (body === undefined) throw new Error(`no interface ${name} in ${file}`);
  return [...body.matchAll(/^ {2}(\w+)\?:/gm)].map((match) => match[1] as string);
}

/** First cells of the tables between a heading and the next one. */
function rowsOf(page: string, heading: string): string[] {
  const section = page.split(/^## /m).find((part) => part.startsWith(heading)) ?? '';
  return [...section.matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1] as string);
}

const page = readFileSync(join(root, 'docs', 'options.md'), 'utf8');

test.each([
  ['Engine options', [['lib/config/options.ts', 'EngineOptions'], ['lib/config/options.ts', 'LoadOptions']]],
  ['Sampling parameters', [['lib/engine/sampling-params.ts', 'SamplingOptions']]],
  ['Requests', [['lib/engine/types.ts', 'RequestOptions'], ['lib/engine/types.ts', 'ChatOptions'], ['lib/engine/types.ts', 'EmbedOptions']]],
] as const)('%s', (heading, sources) => {
  const fields = sources.flatMap(([file, name]) => fieldsOf(file, name));
  expect(fields.length).toBeGreaterThan(3);
  expect(rowsOf(page, heading).sort()).toEqual([...fields].sort());
});
