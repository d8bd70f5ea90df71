/** The files that a tokenizer is made of, wherever they are. */
import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { OcelliError } from '../errors';
import { isGguf, openGguf } from '../gguf';

export type Json = Record<string, unknown>;

export interface TokenizerFiles {
  /** For errors. */
  readonly path: string;
  /** Undefined where there is none of that name. */
  json(name: string): Promise<Json | undefined>;
  text(name: string): Promise<string | undefined>;
}

export async function openTokenizerFiles(path: string): Promise<TokenizerFiles> {
  if (await isGguf(path)) return openGguf(path);
  const isFile = (await stat(path).catch(() => undefined))?.isFile() ?? false;
  const folder = isFile ? dirname(path) : path;
  const text = (file: string): Promise<string | undefined> => readFile(file, 'utf8').catch(() => undefined);
  return {
    path: isFile ? path : join(path, 'tokenizer.json'),
    json: (name) => readJson(isFile && name === 'tokenizer.json' ? path : join(folder, name)),
    text: (name) => text(join(folder, name)),
  };
}

/** Chat templates by name. */
export async function readTemplates(files: TokenizerFiles, config: Json): Promise<Map<string, string>> {
  const templates = new Map<string, string>();
  const given = config.chat_template;
  if (typeof given === 'string') templates.set('default', given);
  else if (Array.isArray(given))
    for (const t of given as { name: string; template: string }[]) templates.set(t.name, t.template);
  const json = (await files.json('chat_template.json'))?.chat_template;
  if (typeof json === 'string') templates.set('default', json);
  const jinja = await files.text('chat_template.jinja');
  if (jinja !== undefined) templates.set('default', jinja);
  return templates;
}

async function readJson(path: string): Promise<Json | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return object(JSON.parse(text), path);
  } catch (cause) {
    if (OcelliError.is(cause)) throw cause;
    throw new OcelliError('ERR_TOKENIZER', `Expected JSON in ${path}`, { cause });
  }
}

export function object(value: unknown, name: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw new OcelliError('ERR_TOKENIZER', `Expected an object for ${name} of tokenizer.json`);
}
