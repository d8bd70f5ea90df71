/** From a model's name to its folder or GGUF file on disk. */
import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OcelliError } from '../errors';
import { isGguf } from '../gguf';

export interface ResolvedModel {
  /** As it was asked for. */
  name: string;
  /** A folder, or a GGUF file. */
  path: string;
}

/** The package's own model, beside dist/. */
const demoFolder = join(__dirname, '..', '..', 'models', 'demo');

const hubName = /^[\w][\w.-]{0,95}\/[\w][\w.-]{0,95}(?:@[\w][\w./-]{0,199})?$/;

/** 'demo'; an existing folder, GGUF file or file URL; owner/name[@revision] in the hub's cache; else ERR_MODEL_NOT_FOUND. */
export async function resolveModel(
  model: string | URL,
  options: { cacheDir?: string; revision?: string } = {},
): Promise<ResolvedModel> {
  if (typeof model !== 'string' && !(model instanceof URL)) {
    throw new OcelliError(
      'ERR_MODEL_NOT_FOUND',
      `Expected a model's name, path or file URL but received ${typeof model}`,
    );
  }
  const name = String(model);
  const looked: string[] = [];
  if (name === 'demo') {
    if (await isFolder(demoFolder)) return { name, path: demoFolder };
    looked.push(`${demoFolder} (the package's own model)`);
  }
  const path = pathOf(model, name);
  if (path !== undefined) {
    const kind = await kindOfPath(path);
    if (kind === 'folder' || (await isGguf(path))) return { name, path };
    if (kind === 'file') {
      throw new OcelliError(
        'ERR_MODEL_FORMAT',
        `Expected a GGUF file, or a folder with config.json and safetensors, but received the file ${path}`,
        {
          hint: 'For safetensors, name the folder.',
        },
      );
    }
    looked.push(path);
  }
  if (hubName.test(name)) {
    const found = await inHubCache(name, options, looked);
    if (found !== undefined) return { name, path: found };
  }
  throw new OcelliError(
    'ERR_MODEL_NOT_FOUND',
    `Expected a model at '${name}' but found none; looked in ${looked.join(', ') || 'no place: the name is empty'}`,
    {
      hint: "Give a folder with config.json, a GGUF file, 'demo', or owner/name of a model in the hub's cache.",
      details: { model: name, looked },
    },
  );
}

function pathOf(model: string | URL, name: string): string | undefined {
  if (name === '') return undefined;
  if (model instanceof URL || name.startsWith('file:')) {
    try {
      return fileURLToPath(model);
    } catch (cause) {
      throw new OcelliError(
        'ERR_MODEL_NOT_FOUND',
        `Expected a file URL of this machine for the model but received ${name}`,
        { cause },
      );
    }
  }
  return name.includes('\0') ? undefined : resolve(name);
}

async function inHubCache(
  name: string,
  options: { cacheDir?: string; revision?: string },
  looked: string[],
): Promise<string | undefined> {
  const [repo, suffix] = name.split('@') as [string, string | undefined];
  const revision = options.revision ?? suffix ?? 'main';
  if (revision.split('/').includes('..')) return undefined;
  const base = join(options.cacheDir ?? hubCache(), `models--${repo.replace('/', '--')}`);
  const commit = await readFile(join(base, 'refs', revision), 'utf8').then(
    (s) => s.trim(),
    () => revision,
  );
  if (!/^[\w.-]+$/.test(commit)) return undefined;
  const folder = join(base, 'snapshots', commit);
  if (await isFolder(folder)) return folder;
  looked.push(`${folder} (the hub's cache)`);
  return undefined;
}

function hubCache(): string {
  const { HF_HUB_CACHE, HF_HOME } = process.env;
  return HF_HUB_CACHE ?? join(HF_HOME ?? join(homedir(), '.cache', 'huggingface'), 'hub');
}

async function kindOfPath(path: string): Promise<'folder' | 'file' | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found?.isDirectory() ? 'folder' : found?.isFile() ? 'file' : undefined;
}

async function isFolder(path: string): Promise<boolean> {
  return (await kindOfPath(path)) === 'folder';
}
