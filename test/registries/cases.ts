/** cases.json, read: which case of v0.6.3 is tested where. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../models/fixtures';

export interface Case {
  /** As the reference page words it. */
  case: string;
  /** file: name of the test, as it stands in the file. */
  test?: string;
  owner?: string;
  note?: string;
}

export interface Group {
  group: string;
  cases: Case[];
}

interface Cases {
  owners: Record<string, string>;
  errors: Group[];
  defects: Group[];
  cases: Group[];
}

export const cases = JSON.parse(readFileSync(join(root, 'test', 'registries', 'cases.json'), 'utf8')) as Cases;

/** Why a test that is named does not exist; undefined where it does. */
export function missingTest(id: string): string | undefined {
  const [, file, name] = /^(\S+): (.+)$/.exec(id) ?? [];
  if (file === undefined || name === undefined) return `${id}: not 'file: name'`;
  let text: string;
  try {
    text = readFileSync(join(root, file), 'utf8');
  } catch {
    return `${id}: no such file`;
  }
  // A test's title, a row of a table of tests, or a function that a native test runs.
  const found = file.endsWith('.cc')
    ? text.includes(`${name}();`)
    : ["'", '"', '`'].some((q) => text.includes(q + name + q));
  return found ? undefined : `${id}: no such test`;
}
