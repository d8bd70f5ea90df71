/**
 * What a user gets: `npm pack`, then the tarball in an empty folder, three ways. No way may start node-gyp (issue npm/cli#9837: `npm ci` runs
 * it wherever binding.gyp lies in a package), a CommonJS and an ESM script must answer about a picture and exit by themselves.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const root = join(__dirname, '../../..');
const samples = join(root, 'models/demo/samples');
const work = mkdtempSync(join(tmpdir(), 'ocelli-package-'));
const trap = join(work, 'gyp-was-here');
let tarball = '';

/** npm, with node-gyp and make in front of PATH replaced by a trap, and nothing of this checkout's npm run in the environment. */
function environment(): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {};
  for (const [name, value] of Object.entries(process.env))
    if (!/^npm_(package|lifecycle|config_node_gyp)/.test(name) && !/^(OCELLI_|NODE_OPTIONS|JEST_)/.test(name))
      env[name] = value;
  env.PATH = `${join(work, 'bin')}${delimiter}${env.PATH ?? ''}`;
  env.npm_config_node_gyp = join(work, 'bin/node-gyp');
  return env;
}

function npm(folder: string, ...args: string[]): void {
  const npmCli = process.env.npm_execpath;
  const [file, first] = npmCli ? [process.execPath, [npmCli]] : ['npm', []];
  const result = spawnSync(file, [...first, ...args], { cwd: folder, encoding: 'utf8', env: environment() });
  if (result.status !== 0) throw new Error(`npm ${args.join(' ')} failed:\n${result.stdout}\n${result.stderr}`);
}

function node(folder: string, ...args: string[]): string {
  const result = spawnSync(process.execPath, args, {
    cwd: folder,
    encoding: 'utf8',
    env: environment(),
    timeout: 60_000,
  });
  if (result.status !== 0 || result.signal)
    throw new Error(
      `node ${args.join(' ')}: status ${result.status}, signal ${result.signal}\n${result.stdout}\n${result.stderr}`,
    );
  return result.stdout.trim();
}

const line = `
const llm = await LLM.load('demo');
const prompt = 'USER: <image>\\nHow many objects are there? ASSISTANT:';
const answer = await llm.generate({ prompt, multiModalData: { image: 'picture.png' } }, { temperature: 0, maxTokens: 60 });
console.log(answer.outputs[0].text);`;
const scripts = {
  'ask.cjs': `const { LLM } = require('ocelli');\n(async () => {${line}\n})();\n`,
  'ask.mjs': `import { LLM } from 'ocelli';\n${line}\n`,
};

function project(name: string): string {
  const folder = join(work, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name, version: '1.0.0', private: true }));
  copyFileSync(join(samples, 'three-circles.png'), join(folder, 'picture.png'));
  for (const [file, text] of Object.entries(scripts)) writeFileSync(join(folder, file), text);
  return folder;
}

function works(folder: string): void {
  expect(existsSync(trap)).toBe(false);
  expect(existsSync(join(folder, 'node_modules/ocelli/build'))).toBe(false);
  for (const script of Object.keys(scripts)) expect([script, node(folder, script)]).toEqual([script, 'Four.']);
}

beforeAll(() => {
  mkdirSync(join(work, 'bin'));
  for (const tool of ['node-gyp', 'make', 'cmake']) {
    const file = join(work, 'bin', tool);
    writeFileSync(file, `#!/bin/sh\necho "$0 $*" >> '${trap}'\nexit 1\n`);
    chmodSync(file, 0o755);
  }
  // prepack builds with the real tools.
  execFileSync('npm', ['pack', '--silent', '--pack-destination', work], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const packed = readdirSync(work).filter((file) => file.endsWith('.tgz'));
  expect(packed).toHaveLength(1);
  tarball = join(work, packed[0] as string);
});

afterAll(() => rmSync(work, { recursive: true, force: true }));

test('the tarball holds what a user needs and no binding.gyp', () => {
  const listing = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).split('\n');
  const names = listing.map((entry) => entry.replace(/^package\//, ''));
  for (const name of [
    'dist/index.js',
    'dist/index.d.ts',
    'dist/nn/index.js',
    'dist/cli/main.js',
    'index.mjs',
    'index.d.mts',
  ])
    expect(names).toContain(name);
  for (const name of [
    'CMakeLists.txt',
    'native/binding.cc',
    'native/exports.map',
    'models/demo/model.safetensors',
    'LICENSE',
  ])
    expect(names).toContain(name);
  expect(names.filter((name) => /^prebuilds\/.*\.(glibc|musl)\.node$|^prebuilds\/darwin/.test(name))).toHaveLength(1);
  expect(names.filter((name) => /gyp|^(test|out|build|bench)\/|\.tsbuildinfo$/.test(name))).toEqual([]);
});

test('npm install', () => {
  const folder = project('plain');
  npm(folder, 'install', '--no-audit', '--no-fund', tarball);
  works(folder);
  // The same from a lockfile: npm ci decides about gyp on its own.
  rmSync(join(folder, 'node_modules'), { recursive: true });
  npm(folder, 'ci', '--no-audit', '--no-fund');
  works(folder);
});

test('npm install --ignore-scripts', () => {
  const folder = project('ignore-scripts');
  npm(folder, 'install', '--no-audit', '--no-fund', '--ignore-scripts', tarball);
  works(folder);
  const cli = join(folder, 'node_modules/.bin/ocelli');
  const output = execFileSync(cli, ['chat', 'picture.png', 'How many objects are there?', '--json'], {
    cwd: folder,
    encoding: 'utf8',
    env: environment(),
  });
  expect(JSON.parse(output)).toMatchObject({ text: 'Four.', finishReason: 'stop' });
});

test('ocelli build, where no prebuilt binary fits', () => {
  const folder = project('build');
  const packed = join(folder, 'node_modules', 'ocelli');
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    devDependencies: Record<string, string>;
  };
  const tools = ['cmake-js', 'node-addon-api'].map((name) => `${name}@${devDependencies[name]}`);
  npm(folder, 'install', '--no-audit', '--no-fund', tarball);
  rmSync(join(packed, 'prebuilds'), { recursive: true });
  const ocelli = (...args: string[]) =>
    spawnSync(join(folder, 'node_modules/.bin/ocelli'), args, {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, CCACHE_BASEDIR: packed },
    });
  const question = ['chat', 'picture.png', 'How many objects are there?'];
  expect(ocelli(...question).stderr).toContain('npx ocelli build');
  expect(ocelli('build').stderr).toContain('missing: cmake-js, node-addon-api. npm install --save-dev');
  npm(folder, 'install', '--no-audit', '--no-fund', '--ignore-scripts', '--save-dev', ...tools);
  const built = ocelli('build');
  expect([built.status, built.stderr]).toEqual([0, expect.stringContaining(join(packed, 'build/Release/ocelli.node'))]);
  expect(existsSync(join(packed, 'out'))).toBe(false);
  expect(ocelli(...question)).toMatchObject({ status: 0, stdout: 'Four.\n' });
}, 900_000);

test('the folder required by its path, without exports', () => {
  const folder = join(work, 'plain');
  const names = node(folder, '-p', "Object.keys(require('./node_modules/ocelli')).includes('OcelliError')");
  expect(names).toBe('true');
});

test('types serve require and import, strictly', () => {
  const folder = join(work, 'plain');
  const source = `import { LLM, OcelliError, type RequestOutput } from 'ocelli';
import { Module } from 'ocelli/nn';
export async function ask(): Promise<RequestOutput | undefined> {
  const llm = await LLM.load('demo', { maxNumSeqs: 2 });
  try {
    return await llm.generate('USER: hello ASSISTANT:', { temperature: 0 });
  } catch (e) {
    if (OcelliError.is(e)) return undefined;
    throw e;
  } finally {
    await llm.dispose();
  }
}
export const base = Module;
`;
  writeFileSync(join(folder, 'typed.mts'), source);
  writeFileSync(join(folder, 'typed.cts'), source);
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const options = ['--noEmit', '--strict', '--target', 'es2022', '--module', 'node16', '--types', 'node'];
  const roots = ['--typeRoots', join(root, 'node_modules/@types')];
  node(
    folder,
    tsc,
    ...options,
    '--lib',
    'es2023,esnext.disposable,esnext.decorators,dom',
    ...roots,
    'typed.mts',
    'typed.cts',
  );
});
