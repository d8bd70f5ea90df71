import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { OcelliError } from '../errors';
import { isObject, kindOf, readJsonFile } from './json-file';

/** The checkpoint's safetensors files: the shards that the index lists, or model.safetensors. */
export async function findWeightFiles(folder: string): Promise<string[]> {
  const indexFile = join(folder, 'model.safetensors.index.json');
  const index = await readJsonFile(indexFile);
  if (index !== undefined) {
    if (!isObject(index.weight_map)) {
      throw new OcelliError(
        'ERR_CHECKPOINT_INDEX',
        `Expected an object for weight_map in ${indexFile} but received ${kindOf(index.weight_map)}`,
      );
    }
    const names = new Set<string>();
    for (const [tensor, file] of Object.entries(index.weight_map)) {
      // The name comes from a file that was downloaded: it must not lead out of the folder.
      if (typeof file !== 'string' || !/^[\w][\w.-]*\.safetensors$/.test(file)) {
        throw new OcelliError(
          'ERR_CHECKPOINT_INDEX',
          `Expected a .safetensors file of the same folder for '${tensor}' in ${indexFile} but received ${kindOf(file)}`,
        );
      }
      names.add(file);
    }
    if (names.size === 0)
      throw new OcelliError(
        'ERR_CHECKPOINT_INDEX',
        `Expected at least one tensor in weight_map of ${indexFile} but it is empty`,
      );
    const files = [...names].sort().map((n) => join(folder, n));
    for (const file of files) {
      if (!(await isFile(file))) {
        throw new OcelliError(
          'ERR_CHECKPOINT_MISSING_SHARD',
          `Expected the shard ${file}, which model.safetensors.index.json names, but there is no such file`,
          {
            hint: 'The download may be incomplete.',
            details: { file },
          },
        );
      }
    }
    return files;
  }
  const single = join(folder, 'model.safetensors');
  if (await isFile(single)) return [single];
  const others = await readdir(folder).catch(() => [] as string[]);
  const other = others.filter((f) => /\.(bin|pt|pth|gguf|safetensors)$/.test(f));
  throw new OcelliError(
    'ERR_CHECKPOINT_MISSING',
    `Expected model.safetensors or model.safetensors.index.json in ${folder} but found ${other.length > 0 ? other.join(', ') : 'no weights'}`,
    {
      hint: 'Save the checkpoint as safetensors.',
    },
  );
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}
