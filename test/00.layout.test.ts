/**
 * The shape of the source tree: imports point one way, files stay small, both module systems see the same names. It runs first and fails
 * fast, because what it guards is cheap to put right on the day it breaks.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';

const root = join(__dirname, '../..');

function files(folder: string, pattern: RegExp): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && pattern.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !path.includes('node_modules'))
    .sort();
}

/** What each folder of lib may import, beside itself. `errors` may be used by all. */
const mayImport: Record<string, readonly string[]> = {
  errors: [],
  native: [],
  gguf: ['native'],
  config: ['gguf'],
  tokenizer: ['gguf'],
  media: ['native'],
  nn: ['config'],
  inputs: ['config', 'media', 'tokenizer', 'multimodal'],
  multimodal: ['config', 'media', 'tokenizer', 'inputs', 'native'],
  models: ['nn', 'multimodal', 'inputs', 'config', 'media', 'tokenizer'],
  engine: ['models', 'nn', 'multimodal', 'inputs', 'config', 'media', 'tokenizer', 'native'],
  index: ['engine', 'models', 'nn', 'multimodal', 'inputs', 'config', 'media', 'tokenizer'],
  server: ['index', 'engine', 'models', 'multimodal', 'inputs', 'config', 'media', 'tokenizer', 'native'],
  cli: ['index', 'server', 'engine', 'models', 'nn', 'multimodal', 'inputs', 'config', 'media', 'tokenizer', 'native'],
};
/** Types alone may also go these ways: they are gone at run time. */
const mayImportTypes: Record<string, readonly string[]> = { native: ['media'], gguf: ['config'] };

/** The same for native/: a backend sees the core's views and checks, never the engine. */
const mayInclude: Record<string, readonly string[]> = {
  core: [],
  compat: [],
  image: ['core'],
  ref: ['core'],
  cpu: ['core'],
  cuda: ['core'],
  ptx: ['core', 'ref', 'image', 'cuda', 'engine'],
  engine: ['core'],
};

interface Edge {
  from: string;
  to: string;
  where: string;
  typeOnly: boolean;
}

const part = (path: string): string => path.split('/')[1]?.replace(/\.ts$/, '') ?? '';

function imports(path: string): Edge[] {
  const text = readFileSync(join(root, path), 'utf8');
  const edges: Edge[] = [];
  const statement = /^(?:import|export)\s+(type\s)?[^;'"]*?from\s+'(\.[^']*)'|(?:import|require)\('(\.[^']*)'\)/gm;
  for (const [, type, plain, call] of text.matchAll(statement)) {
    const target = normalize(join(dirname(path), (plain ?? call) as string)).replace(/\.js$/, '');
    edges.push({
      from: part(path),
      to: target === 'lib' ? 'index' : part(target),
      where: `${path} -> ${target}`,
      typeOnly: type !== undefined,
    });
  }
  return edges;
}

const sources = files('lib', /\.ts$/);
const edges = sources.flatMap(imports);

test('the imports are found', () => {
  expect(edges.length).toBeGreaterThan(sources.length);
});

test('imports between the folders of lib point one way', () => {
  const wrong = edges.filter(({ from, to, typeOnly }) => {
    if (from === to || to === 'errors') return false;
    return !mayImport[from]?.includes(to) && !(typeOnly && mayImportTypes[from]?.includes(to));
  });
  expect(wrong.map((edge) => edge.where)).toEqual([]);
});

test('includes between the folders of native point one way', () => {
  const wrong: string[] = [];
  for (const path of files('native', /\.(cc|h|cu|cuh)$/)) {
    const from = part(path);
    const allowed = mayInclude[from];
    if (!allowed || /\/binding\w*\.(cc|h)$/.test(path)) continue;
    for (const [, target] of readFileSync(join(root, path), 'utf8').matchAll(/^#include "([^"]+)"/gm)) {
      const to = (target as string).split('/')[0] as string;
      if (to !== from && to in mayInclude && !allowed.includes(to)) wrong.push(`${path} -> ${target}`);
    }
  }
  expect(wrong).toEqual([]);
});

test('files stay small: 400 lines, a kernel 800', () => {
  const long: string[] = [];
  for (const path of [
    ...files('lib', /\.ts$/),
    ...files('test', /\.ts$/),
    ...files('native', /\.(cc|h|cu|cuh|def|mjs)$/),
  ]) {
    const lines = readFileSync(join(root, path), 'utf8').split('\n').length - 1;
    const limit = /^native\/(ref|cpu|cuda|image)\//.test(path) ? 800 : 400;
    if (lines > limit) long.push(`${path}: ${lines} lines`);
  }
  expect(long).toEqual([]);
});

test('the library prints nothing: only the command line does', () => {
  const printing = sources
    .filter((path) => part(path) !== 'cli')
    .filter((path) => /\bconsole\.|process\.(stdout|stderr)\b/.test(readFileSync(join(root, path), 'utf8')));
  expect(printing).toEqual([]);
});

test('import and require see the same names', () => {
  const script = `
    import { createRequire } from 'node:module';
    import * as esm from './index.mjs';
    const cjs = createRequire(import.meta.url)('./dist/index.js');
    const differing = Object.keys(cjs).filter((name) => cjs[name] !== esm[name]);
    const hidden = ['__esModule', 'default', 'module.exports'];
    const extra = Object.keys(esm).filter((name) => !(name in cjs) && !hidden.includes(name));
    console.log(JSON.stringify({ differing, extra, names: Object.keys(cjs).length }));`;
  const copy = script.replace('import.meta.url', JSON.stringify(join(root, 'index.mjs')));
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', copy], { cwd: root, encoding: 'utf8' });
  const result = JSON.parse(output) as { differing: string[]; extra: string[]; names: number };
  expect(result).toMatchObject({ differing: [], extra: [] });
  expect(result.names).toBeGreaterThan(5);
});

test('the package keeps install scripts and binding.gyp out', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    gypfile: boolean;
    files: string[];
    scripts: Record<string, string>;
  };
  expect(manifest.gypfile).toBe(false);
  expect(manifest.files.filter((entry) => entry.includes('gyp'))).toEqual([]);
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare', 'prebuild'])
    expect(manifest.scripts).not.toHaveProperty(name);
});

test('the CPU build has no trace of CUDA, and the package none of its sources', () => {
  const file = join(root, 'build/Release/ocelli.node');
  const addon = readFileSync(file, 'latin1');
  expect(['libcuda', 'libcudart', 'cuInit', 'cuLaunchKernel'].filter((name) => addon.includes(name))).toEqual([]);
  if (process.platform === 'linux') {
    // What it is linked with, and what it takes from and gives to others.
    expect(execFileSync('ldd', [file], { encoding: 'utf8' })).toMatch(/libc\.[^]*/);
    expect(execFileSync('ldd', [file], { encoding: 'utf8' })).not.toMatch(/cuda|nvidia/i);
    expect(execFileSync('nm', ['-D', file], { encoding: 'utf8' })).not.toMatch(/cuda|\bcu[A-Z]|nvrtc/);
  }
  const listing = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [packed] = JSON.parse(listing) as { files: { path: string }[] }[];
  const paths = packed?.files.map((file) => file.path) ?? [];
  expect(paths).toContain('native/core/ops.def');
  expect(paths.filter((path) => /^native\/(cuda|ptx)\/|^(build|out)\/|\.so$|fatbin|\.ptx$/.test(path))).toEqual([]);
});
