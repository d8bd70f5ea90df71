/** Errors, usage and --json of commands that need no engine, and of chat before it has one. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../models/fixtures';
import { circles, howMany, main, run } from './run';

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

test('help and version end with 0', () => {
  expect(run(['--version'])).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
  const help = run(['--help']);
  expect(help.status).toBe(0);
  for (const command of ['chat', 'inspect', 'doctor', 'build']) expect(help.stdout).toContain(`  ${command} `);
  const chat = run(['chat', '--help']).stdout;
  expect(chat).toContain('--max-tokens <N>');
  expect(chat).toContain('--kv-cache-memory-bytes <SIZE>');
});

test('wrong usage ends with 2 and says what is possible', () => {
  for (const args of [[], ['chta'], ['chat', '--modle', 'demo'], ['chat', '--threads', 'x'], ['chat', 'one', 'two']]) {
    const { status, stdout, stderr } = run(args);
    expect([args, status, stdout]).toEqual([args, 2, '']);
    expect(stderr).not.toBe('');
  }
  expect(run(['chta']).stderr).toContain('Did you mean chat?');
});

test('a picture that is not there is an error before anything is loaded', () => {
  const { status, stdout, stderr } = run(['chat', 'nowhere.png', howMany]);
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toMatch(
    /^ocelli: Expected a picture file for 'nowhere\.png' but there is none\. .*\(ERR_MEDIA_NOT_FOUND\)\n$/,
  );
  expect(run(['chat', circles, '-i', 'nowhere', howMany]).stderr).toContain('ERR_MEDIA_NOT_FOUND');
});

test('errors of the library come through in one line, as JSON where asked for', () => {
  const line = run(['chat', '--model', './no-such-model', 'Hello?']);
  expect([line.status, line.stdout]).toEqual([1, '']);
  expect(line.stderr.trimEnd().split('\n')).toHaveLength(1);
  expect(line.stderr).toContain('(ERR_MODEL_NOT_FOUND)');
  const json = run(['chat', '--model', './no-such-model', '--json', 'Hello?']);
  expect(json.status).toBe(1);
  expect(JSON.parse(json.stdout)).toMatchObject({
    error: { code: 'ERR_MODEL_NOT_FOUND', message: expect.stringContaining('no-such-model'), hint: expect.any(String) },
  });
  expect(JSON.parse(run(['inspect', 'nothing/here', '--json']).stdout)).toMatchObject({
    error: { code: 'ERR_MODEL_NOT_FOUND' },
  });
});

test('--import runs a module first, and says what fails in it', () => {
  const wrong = run(['chat', '--import', './none.mjs', 'Hello?']);
  expect(wrong.status).toBe(1);
  expect(wrong.stderr).toContain('(ERR_IMPORT)');
});

test('under node --permission the error says which flags are missing', () => {
  const permission = ['--experimental-permission', `--allow-fs-read=${root}`, '--allow-fs-read=/etc/alpine-release'];
  const inspect = (...flags: string[]) =>
    spawnSync(process.execPath, [...permission, ...flags, main, 'inspect', 'demo'], { encoding: 'utf8' });
  const refused = inspect();
  expect(refused.status).toBe(1);
  expect(refused.stderr).toMatch(/--allow-addons --allow-worker and --allow-fs-read .*\(ERR_NO_NATIVE_BINARY\)/);
  expect(inspect('--allow-addons', '--allow-worker').status).toBe(0);
});

test('build with nothing to build with names what is missing', () => {
  const { status, stderr } = run(['build', '--force'], { env: { PATH: '', CXX: '' } });
  expect(status).toBe(1);
  expect(stderr).toContain('missing: cmake, C++ compiler, make or ninja');
  expect(stderr).toContain('(ERR_BUILD_TOOLS)');
});

test('build where a binary loads does nothing', () => {
  const { status, stderr } = run(['build']);
  expect(status).toBe(0);
  expect(stderr).toContain('Nothing to do');
});
