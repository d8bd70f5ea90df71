/** `ocelli chat` through pipes: answers, JSON, conversations. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fixtureModels, root } from '../models/fixtures';
import { circles, howMany, main, run, samples } from './run';

const ring = join(samples, 'red-ring.png');

test('the answer alone goes to standard output', () => {
  expect(run(['chat', circles, howMany])).toEqual({ status: 0, stdout: 'Four.\n', stderr: '' });
});

test('--json', () => {
  const { status, stdout, stderr } = run(['chat', '-i', circles, howMany, '--json', '--max-tokens', '50']);
  expect([status, stderr]).toEqual([0, '']);
  expect(stdout.trimEnd().split('\n')).toHaveLength(1);
  const answer = JSON.parse(stdout) as { tokenIds: number[]; usage: { completionTokens: number } };
  expect(Object.keys(answer).sort()).toEqual(['finishReason', 'text', 'timing', 'tokenIds', 'usage']);
  expect(answer).toMatchObject({
    text: 'Four.',
    finishReason: 'stop',
    usage: { imageTokens: 64, cachedTokens: 0 },
    timing: { firstTokenMs: expect.any(Number), totalMs: expect.any(Number), tokensPerSecond: expect.any(Number) },
  });
  expect(answer.tokenIds).toHaveLength(answer.usage.completionTokens);
});

test('sampling and engine options reach the library', () => {
  const cut = run(['chat', circles, 'Describe the image.', '--max-tokens', '3', '--json', '--dtype', 'float32']);
  expect(JSON.parse(cut.stdout)).toMatchObject({ finishReason: 'length', usage: { completionTokens: 3 } });
  const wrong = run(['chat', circles, howMany, '--top-p', '2', '--json']);
  expect([wrong.status, (JSON.parse(wrong.stdout) as { error: { code: string } }).error.code]).toEqual([
    1,
    'ERR_SAMPLING',
  ]);
});

test('a file that is no picture is an error', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-chat-'));
  const text = join(folder, 'text.png');
  writeFileSync(text, 'This is no picture.');
  const { status, stdout, stderr } = run(['chat', text, howMany]);
  rmSync(folder, { recursive: true });
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toContain('(ERR_IMAGE_FORMAT)');
});

test('--import: an architecture that the module registers', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-import-'));
  const demo = join(root, 'models', 'demo');
  for (const file of readdirSync(demo)) if (file !== 'config.json') symlinkSync(join(demo, file), join(folder, file));
  const config = JSON.parse(readFileSync(join(demo, 'config.json'), 'utf8')) as object;
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, architectures: ['MineForCounting'] }));
  const dist = join(root, 'dist');
  writeFileSync(
    join(folder, 'mine.mjs'),
    `import { registerModel } from ${JSON.stringify(join(root, 'index.mjs'))};
     import llava from ${JSON.stringify(join(dist, 'models', 'llava.js'))};
     registerModel('MineForCounting', llava.LlavaForConditionalGeneration);`,
  );
  const ask = (...flags: string[]) => run(['chat', '--model', folder, ...flags, circles, howMany]);
  const [without, imported] = [ask(), ask('--import', join(folder, 'mine.mjs'))];
  rmSync(folder, { recursive: true });
  expect([without.status, without.stdout]).toEqual([1, '']);
  expect(without.stderr).toContain('(ERR_UNKNOWN_ARCHITECTURE)');
  expect(imported).toEqual({ status: 0, stdout: 'Four.\n', stderr: '' });
});

test('two pictures are too many for one prompt unless both stand on the command line', () => {
  const { status, stdout } = run(['chat', circles, ring, howMany, '--json']);
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ usage: { imageTokens: 128 } });
});

test('a conversation from a pipe: one answer per line, errors on the way, commands', () => {
  const input = [howMany, '/image nowhere.png', `/image ${ring}`, 'What color is the ring?', '', '/quit', howMany];
  const { status, stdout, stderr } = run(['chat', circles], { input: input.join('\n') });
  expect(stdout).toBe('Four.\nRed.\n');
  expect(stderr).toContain('ERR_MEDIA_NOT_FOUND');
  expect(status).toBe(1);
});

test('a picture that cannot be used does not spoil the questions after it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-chat-'));
  const text = join(folder, 'text.png');
  writeFileSync(text, 'This is no picture.');
  const input = `${howMany}\n/image ${text}\n/image ${circles}\n${howMany}\n`;
  const { status, stdout, stderr } = run(['chat', text], { input });
  rmSync(folder, { recursive: true });
  expect([status, stdout]).toEqual([1, 'Four.\n']);
  expect(stderr.match(/ERR_IMAGE_FORMAT/g)).toHaveLength(2);
});

test('no question at all is wrong usage', () => {
  expect(run(['chat', circles], { input: '' })).toMatchObject({ status: 2, stdout: '' });
});

test('a conversation in JSON: a line per answer; the second prompt holds the first answer', () => {
  const input = `${howMany}\nIs there a purple heart?\n`;
  const { status, stdout } = run(['chat', circles, '--json'], { input });
  expect(status).toBe(0);
  type Answer = { text: string; usage: { promptTokens: number; imageTokens: number } };
  const [first, second, ...more] = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Answer);
  expect(more).toEqual([]);
  expect(first).toMatchObject({ text: 'Four.' });
  expect(second?.usage.imageTokens).toBe(64);
  expect(second?.usage.promptTokens).toBeGreaterThan(first?.usage.promptTokens as number);
});

test('a reader that has enough ends it in peace', () => {
  const command = `'${process.execPath}' '${main}' chat '${circles}' 'Describe the image.' --ignore-eos --max-tokens 900`;
  const { status, stdout, stderr } = spawnSync('bash', ['-c', `set -o pipefail; ${command} | head -c 9`], {
    encoding: 'utf8',
  });
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'From left', stderr: '' });
});

test('a model without a chat template is asked as it stands; one that writes pictures by their beginning is inspected', () => {
  const [paligemma, gemma3] = ['paligemma', 'gemma3'].map((name) => join(fixtureModels, name));
  const { status, stdout } = run(['chat', circles, howMany, '--model', paligemma!, '--max-tokens', '2', '--json']);
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ usage: { imageTokens: 16 } });
  const inspected = JSON.parse(run(['inspect', gemma3!, '--json']).stdout) as { images: { example: object } };
  expect(inspected.images.example).toMatchObject({ tokens: 9 });
});
