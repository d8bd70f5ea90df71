/** From --model and --import to a loaded engine, with progress and Ctrl-C. */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Option, type Command } from 'commander';
import { OcelliError } from '../errors';
import { LLM, type EngineOptions } from '../index';
import { list } from './flags';
import { Interrupted, stoppable } from './outcome';
import { StatusLine } from './terminal';

export interface ModelFlags {
  model: string;
  import: string[];
}

export function addModelFlags(command: Command): Command {
  return command
    .option('-m, --model <MODEL>', "a folder, owner/name of the hub's cache, or demo", 'demo')
    .addOption(importOption());
}

export function importOption(): Option {
  return new Option('--import <FILE>', 'loads a module that registers models of your own first; repeatable')
    .argParser(list)
    .default([], 'none');
}

/** Runs each module: its registerModel() calls and decorators are what counts. */
export async function importModels(files: readonly string[]): Promise<void> {
  for (const file of files) {
    try {
      await import(pathToFileURL(resolve(file)).href);
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      throw new OcelliError('ERR_IMPORT', `Expected a module for --import but ${file} failed: ${message}`, {
        hint:
          code === 'ERR_UNKNOWN_FILE_EXTENSION'
            ? 'Compile it with tsc and import the result.'
            : 'Name a JavaScript file that runs under node by itself.',
        cause,
      });
    }
  }
}

export async function loadEngine(flags: ModelFlags, options: EngineOptions): Promise<LLM> {
  await importModels(flags.import);
  const status = new StatusLine();
  const abort = new AbortController();
  const phases = {
    download: 'downloading',
    read: 'reading',
    pack: 'packing weights of',
    profile: 'planning memory of',
  };
  try {
    return await stoppable(
      () => abort.abort(new Interrupted()),
      () =>
        LLM.load(flags.model, {
          ...options,
          signal: abort.signal,
          onProgress: ({ phase, loaded, total }) =>
            status.show(`${phases[phase]} ${flags.model}: ${Math.floor((100 * loaded) / Math.max(1, total))}%`),
        }),
    );
  } finally {
    status.clear();
  }
}
