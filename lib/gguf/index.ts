/** GGUF files as the folder that a converter made them from: configurations, tokenizer, names of tensors. */
import { readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { JsonObject } from '../config/json-file';
import type { ModelSource } from '../config/model-source';
import { OcelliError } from '../errors';
import { GgufFile } from './file';
import { generationConfig, textConfig } from './text-config';
import { textPlaces } from './tensor-names';
import { tokenizerFiles } from './tokenizer';
import { llavaConfig, preprocessorConfig, projectionWidth, visionPlaces } from './vision';

export { isGguf } from './file';

/** @param options.mmproj the vision tower's file; false: none, absent: the one beside `path` that fits */
export async function openGguf(path: string, options: { mmproj?: string | false } = {}): Promise<ModelSource> {
  const gguf = await GgufFile.open(path);
  const text = textConfig(gguf);
  const vision = await visionFile(gguf, text.hidden_size as number, options.mmproj);
  const tokenizer = tokenizerFiles(gguf, { image: vision !== undefined });
  const files: Record<string, JsonObject> = {
    'config.json': vision ? llavaConfig(text, vision, tokenizer.imageTokenId!) : text,
    'generation_config.json': generationConfig(gguf),
    'tokenizer.json': tokenizer.tokenizer,
    'tokenizer_config.json': tokenizer.config,
    ...(vision ? { 'preprocessor_config.json': preprocessorConfig(vision) } : {}),
  };
  return {
    path,
    format: 'gguf',
    json: (name) => Promise.resolve(files[name]),
    text: () => Promise.resolve(undefined),
    weights: () => {
      const { names, pairedHeads } = textPlaces(gguf, text, vision ? 'language_model.' : '');
      return Promise.resolve({
        files: [...gguf.shards, ...(vision?.shards ?? [])],
        names: vision ? new Map([...names, ...visionPlaces(vision)]) : names,
        pairedHeads,
      });
    },
  };
}

async function visionFile(
  gguf: GgufFile,
  width: number,
  mmproj: string | false | undefined,
): Promise<GgufFile | undefined> {
  if (mmproj === false) return undefined;
  if (mmproj !== undefined) {
    const file = await GgufFile.open(mmproj);
    if (projectionWidth(file) === width) return file;
    throw new OcelliError(
      'ERR_MODEL_FORMAT',
      `Expected a projector to a width of ${width} (embedding_length of ${gguf.path}) in ${mmproj} but received ${projectionWidth(file) ?? 'none'}`,
      { hint: 'Projector and language model come in pairs.', details: { option: 'mmproj' } },
    );
  }
  const folder = dirname(gguf.path);
  const names = (await readdir(folder)).filter((name) => /mmproj.*\.gguf$/i.test(name));
  const neighbours = await Promise.all(names.map((name) => GgufFile.open(join(folder, name))));
  const fitting = neighbours.filter((file) => projectionWidth(file) === width);
  if (fitting.length < 2) return fitting[0];
  throw new OcelliError(
    'ERR_MODEL_FORMAT',
    `Expected one projector beside ${gguf.path} but found ${fitting.map((f) => f.path).join(', ')}`,
    { hint: 'Name one with the option mmproj, or none with mmproj: false.', details: { option: 'mmproj' } },
  );
}
