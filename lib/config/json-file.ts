import { readFile } from 'node:fs/promises';
import { OcelliError } from '../errors';

export type JsonObject = Record<string, unknown>;

/** A folder's JSON object; undefined where the file does not exist. */
export async function readJsonFile(path: string): Promise<JsonObject | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new OcelliError('ERR_CONFIG_FILE', `Expected to read ${path} but the system says ${String(code)}`, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new OcelliError('ERR_CONFIG_FILE', `Expected JSON in ${path} but received ${(cause as Error).message}`, {
      cause,
    });
  }
  if (isObject(value)) return value;
  throw new OcelliError('ERR_CONFIG_FILE', `Expected a JSON object in ${path} but received ${kindOf(value)}`);
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function kindOf(value: unknown): string {
  return value === null
    ? 'null'
    : Array.isArray(value)
      ? 'an array'
      : typeof value === 'object'
        ? 'an object'
        : JSON.stringify(value);
}
