/** `ocelli doctor`, `ocelli inspect` and the demo: text and JSON. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fixtureModels, root } from '../models/fixtures';
import { run } from './run';

test('doctor: what is here, a self-test, what a build needs', () => {
  const { status, stdout, stderr } = run(['doctor']);
  expect([status, stderr]).toEqual([0, '']);
  expect(stdout).toContain('Self-test: passed');
  for (const part of ['instruction set', 'cores', 'memory', 'CUDA', 'cmake-js', 'node-addon-api', 'Everything works.'])
    expect(stdout).toContain(part);
});

test('doctor --json', () => {
  const report = JSON.parse(run(['doctor', '--json'], { env: { OCELLI_ISA: undefined } }).stdout) as object;
  expect(report).toMatchObject({
    ok: true,
    native: {
      loaded: true,
      forcedIsa: null,
      info: { cores: expect.any(Number), memory: { limit: expect.any(Number) } },
    },
    cuda: { available: false, reason: expect.any(String) },
    selfTest: { ok: true, loadMs: expect.any(Number), answerMs: expect.any(Number) },
    build: { ready: true },
  });
});

test('doctor says what is missing for a build, with a remedy, and stays content', () => {
  const { status, stdout } = run(['doctor', '--json'], { env: { PATH: '', CXX: '' } });
  expect(status).toBe(0);
  const { build } = JSON.parse(stdout) as { build: { ready: boolean; tools: { name: string; remedy: string }[] } };
  expect(build.ready).toBe(false);
  expect(build.tools).toContainEqual({ name: 'cmake', remedy: expect.any(String) });
});

test('doctor fails where no answer comes', () => {
  const { status, stdout } = run(['doctor'], { env: { OCELLI_ISA: 'sse9' } });
  expect(status).toBe(1);
  expect(stdout).toContain('ERR_ISA');
});

test('inspect: parameters, what a picture costs, memory; no weights read', () => {
  const inspection = JSON.parse(run(['inspect', 'demo', '--json', '--image-size', '4000x3000']).stdout) as object;
  expect(inspection).toMatchObject({
    architecture: 'LlavaForConditionalGeneration',
    dtype: 'bfloat16',
    maxModelLen: 1024,
    images: { perPrompt: 1, maxTokens: 64, example: { width: 4000, height: 3000, tokens: 64 } },
    memory: { kvBytesPerToken: 4 * 3 * 64 * 2, maxModelLen: 1024 },
  });
  const text = run(['inspect', join(fixtureModels, 'llama'), '--dtype', 'float32']).stdout;
  expect(text).toContain('LlamaForCausalLM, float32');
  expect(text).toContain('none: a text model');
});

test.each([
  ['qwen2_vl', 2],
  ['qwen3_vl', 5],
  ['llava_onevision', 8],
])('inspect: what a video costs in %s', (name, frames) => {
  const folder = join(fixtureModels, name);
  const { videos } = JSON.parse(run(['inspect', folder, '--json', '--image-size', '80x60']).stdout) as {
    videos: { perPrompt: number; maxTokens: number; example: { tokens: number } };
  };
  expect(videos).toMatchObject({ perPrompt: 1, example: { frames, width: 80, height: 60 } });
  expect(videos.example.tokens).toBeGreaterThan(0);
  expect(videos.example.tokens).toBeLessThanOrEqual(videos.maxTokens);
  expect(run(['inspect', folder]).stdout).toMatch(/videos +1 per prompt; at most \d+ tokens each/);
});

test('inspect needs configurations only; a picture costs what its size says', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-inspect-'));
  const fixture = join(fixtureModels, 'qwen2_vl');
  for (const file of ['config.json', 'preprocessor_config.json']) copyFileSync(join(fixture, file), join(folder, file));
  const tokens = (size: string) =>
    JSON.parse(run(['inspect', folder, '--json', '--image-size', size]).stdout) as { images: object };
  // A token is 2 x 2 merged patches of 14 pixels.
  expect(tokens('56x56').images).toMatchObject({ example: { tokens: 4 } });
  expect(tokens('112x56').images).toMatchObject({ example: { tokens: 8 } });
  rmSync(folder, { recursive: true });
});

test('inspect --dump prints the traced programs', () => {
  const { status, stdout } = run(['inspect', 'demo', '--dump']);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^program text\(T, S, F\)/);
  expect(stdout).toContain('program encoder:image:pixelValues(');
  expect(stdout).toContain('attention_paged(');
});

test('the demo: every answer is the expected one', () => {
  const demo = (...args: string[]) =>
    spawnSync(process.execPath, [join(root, 'dist', 'cli', 'demo.js'), ...args], { encoding: 'utf8' });
  const json = demo('--json');
  expect(json.status).toBe(0);
  const report = JSON.parse(json.stdout) as { ok: boolean; answers: { right: boolean }[] };
  expect(report).toMatchObject({ ok: true, model: 'demo', asked: 20, right: 20 });
  expect(report.answers.every((answer) => answer.right)).toBe(true);
  const text = demo();
  expect(text.status).toBe(0);
  expect(text.stdout).toContain('What color is the ring?'.slice(0, 14));
  expect(text.stdout).toContain('20 of 20 answers as expected');
});
