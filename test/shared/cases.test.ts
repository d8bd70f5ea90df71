/** cases.json has every case of the reference page: what is left of the page without them says nothing. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { shared } from '../media/pictures';
import { cases, type Group } from '../registries/cases';

const page = readFileSync(join(shared, 'registries.md'), 'utf8');

function rest(text: string, groups: readonly Group[]): string {
  const parts = groups.flatMap((g) => [g.group, ...g.cases.map((c) => c.case)]);
  // The longest first, so that no part is found inside another.
  for (const part of [...parts].sort((a, b) => b.length - a.length)) {
    expect(text).toContain(part);
    text = text.replace(part, '');
  }
  return text;
}

const paragraph = (start: string): string => page.split('\n').find((line) => line.startsWith(start))!;

test.each([
  ['errors', paragraph('**Every error**'), cases.errors],
  ['defects', paragraph('**Seed defects to beat**'), cases.defects],
  ['cases', page.slice(page.indexOf('\n', page.indexOf('## 2.'))), cases.cases],
] as const)('%s', (_, text, groups) => {
  expect(rest(text, groups).replace(/[\s;:,.()`]/g, '')).toBe('');
});
