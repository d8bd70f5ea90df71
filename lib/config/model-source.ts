/** Where a model's files come from: a folder, or a GGUF file that answers as the folder it was made from. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isGguf, openGguf } from '../gguf';
import { readJsonFile, type JsonObject } from './json-file';
import { findWeightFiles } from './weight-files';

export interface ModelSource {
  /** The folder or file. */
  readonly path: string;
  readonly format: 'folder' | 'gguf';
  /** config.json and the like; undefined where there is none. */
  json(name: string): Promise<JsonObject | undefined>;
  text(name: string): Promise<string | undefined>;
  weights(): Promise<ModelWeights>;
}

export interface ModelWeights {
  files: string[];
  /** A tensor's name as the folder would have it -> its name in the files; absent: the names are the folder's. */
  names?: ReadonlyMap<string, string>;
  /** Tensor in the files -> heads whose rows come in rope pairs. */
  pairedHeads?: Readonly<Record<string, number>>;
}

/** @param options.mmproj a GGUF's vision tower and projector; false: none, absent: the one beside it that fits */
export async function openModelSource(path: string, options: { mmproj?: string | false } = {}): Promise<ModelSource> {
  if (await isGguf(path)) return openGguf(path, options);
  return {
    path,
    format: 'folder',
    json: (name) => readJsonFile(join(path, name)),
    text: (name) => readFile(join(path, name), 'utf8').catch(() => undefined),
    weights: async () => ({ files: await findWeightFiles(path) }),
  };
}
