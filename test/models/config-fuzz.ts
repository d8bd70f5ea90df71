/** Checkpoints whose configuration says something else in one field: what comes of it is an engine or a coded error that names a field. */
import { mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { estimateMemory, OcelliError } from '../../dist/index';

export const configFiles = [
  'config.json',
  'preprocessor_config.json',
  'processor_config.json',
  'generation_config.json',
];

type Json = Record<string, unknown>;

/** What a field may become: absent, of another type, negative, between, huge, and near to what it is. */
const changes: readonly ((value: unknown) => unknown)[] = [
  () => undefined,
  () => null,
  () => -1,
  () => 0,
  () => 1,
  () => 1.5,
  () => 1e-300,
  () => 1e6,
  () => 1e9,
  () => 1e308,
  () => 'x',
  () => true,
  () => [],
  () => [1e9, 1e9],
  () => [[1, 2], [3]],
  () => ({ a: {} }),
  (value) => (typeof value === 'number' ? value + 1 : 7),
  (value) => (typeof value === 'number' ? 2 * value : [1, 2, 3]),
];

/** Paths of all fields; of a list the first two entries. */
function fieldsOf(json: object, path: readonly string[] = []): string[][] {
  const names = Object.keys(json).slice(0, Array.isArray(json) ? 2 : undefined);
  return names.flatMap((name) => {
    const value: unknown = json[name as keyof typeof json];
    const inner = typeof value === 'object' && value !== null ? fieldsOf(value, [...path, name]) : [];
    return [[...path, name], ...inner];
  });
}

function changed(json: Json, path: readonly string[], change: (value: unknown) => unknown): Json {
  const copy = structuredClone(json);
  const holder = path.slice(0, -1).reduce((o, name) => o[name] as Json, copy);
  holder[path.at(-1)!] = change(holder[path.at(-1)!]);
  return copy;
}

/** Errors that say all without a field: of memory with every term, of a class by its names, of the context beside the option. */
const whole = ['ERR_MEMORY', 'ERR_UNKNOWN_ARCHITECTURE', 'ERR_OPTION'];

/**
 * Plans an engine for each field of a file of `source` changed.
 * @param count how many of the changes each field gets
 * @returns how many were tried, and what came of those that are neither planned nor refused as they should be
 */
export async function fuzzConfig(
  source: string,
  file: string,
  count: number,
): Promise<{ tried: number; bad: string[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-fuzz-'));
  for (const name of readdirSync(source)) if (name !== file) symlinkSync(join(source, name), join(folder, name));
  const json = JSON.parse(readFileSync(join(source, file), 'utf8')) as Json;
  const bad: string[] = [];
  let tried = 0;
  // Families begin at other places, so that all of them together try all changes of the fields that they share.
  const start = [...source].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
  for (const [i, path] of fieldsOf(json).entries()) {
    for (const [k, change] of changes.entries()) {
      if ((start + i - k) % Math.ceil(changes.length / count) !== 0) continue;
      writeFileSync(join(folder, file), JSON.stringify(changed(json, path, change)));
      tried++;
      // Without a length the model's own counts.
      const error: unknown = await estimateMemory(folder, tried % 2 === 0 ? { maxModelLen: 64 } : {}).then(
        () => undefined,
        (e: unknown) => e,
      );
      if (error === undefined) continue;
      const named = OcelliError.is(error) && (typeof error.details?.field === 'string' || whole.includes(error.code));
      if (!named) bad.push(`${path.join('.')}, change ${k}: ${String(error)}`);
    }
  }
  rmSync(folder, { recursive: true });
  return { tried, bad };
}
