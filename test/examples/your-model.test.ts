/** examples/your-model: the finished files of docs/add-a-model.md, and what they do outside the package. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { blocksOf, withBlock } from '../guide/blocks';
import { root } from '../models/fixtures';

const example = join(root, 'examples', 'your-model');
const blocks = blocksOf('docs/add-a-model.md');
const read = (name: string): string => readFileSync(join(example, name), 'utf8');

test.each(['swatch.ts', 'make-weights.mjs', 'ask.mjs'])('the guide’s blocks make %s', (file) => {
  const text = blocks.filter((b) => b.file === file).reduce<string | undefined>(withBlock, undefined);
  expect(text).toBe(read(file));
});

test('blocks of no file are part of the twin in plain JavaScript', () => {
  const stray = blocks.filter((b) => b.file === undefined && !['sh', 'text'].includes(b.language));
  expect(stray.map((b) => b.language)).toEqual(['js']);
  expect(read('swatch.mjs')).toContain(stray[0]!.code);
});

test('a diff that does not fit is noticed', () => {
  const diff = (code: string) => ({ language: 'diff', file: 'x', code });
  expect(withBlock('a\nb\nc\n', diff(' a\n-b\n+d\n@@\n c\n+e\n'))).toBe('a\nd\nc\ne\n');
  expect(() => withBlock('a\nb\n', diff(' b\n a\n'))).toThrow('Expected these lines');
  expect(() => withBlock('ab\n', diff(' b\n+c\n'))).toThrow('Expected these lines');
});

describe('in a folder of its own', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-your-model-'));
  const run = (...args: string[]): string => {
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
    if (status !== 0) throw new Error(`${args.join(' ')} ended with ${status}\n${stdout}${stderr}`);
    expect(stderr).toBe('');
    return stdout;
  };
  const cli = join('node_modules', 'ocelli', 'dist', 'cli', 'main.js');

  beforeAll(() => {
    cpSync(example, folder, { recursive: true, filter: (path) => !path.includes('node_modules') });
    mkdirSync(join(folder, 'node_modules', '@types'), { recursive: true });
    symlinkSync(root, join(folder, 'node_modules', 'ocelli'));
    symlinkSync(join(root, 'node_modules', '@types', 'node'), join(folder, 'node_modules', '@types', 'node'));
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    run(join(root, 'node_modules', 'typescript', 'bin', 'tsc'), ...scripts.build!.split(' ').slice(1));
    run('make-weights.mjs', 'weights');
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each(['./swatch.js', './swatch.mjs'])('%s answers about the colours of pictures', (module) => {
    expect(run('ask.mjs', module)).toBe('red (20 tokens)\nblue (54 tokens)\nyellow (12 tokens)\n');
  });

  test('both leave the same programs', () => {
    const dump = (module: string): string => run(cli, 'inspect', '--import', module, 'weights', '--dump');
    expect(dump('./swatch.mjs')).toBe(dump('./swatch.js'));
  });

  test('ocelli chat --import', () => {
    const picture = join(root, 'models', 'demo', 'samples', 'red-ring.png');
    const args = ['chat', '--import', './swatch.mjs', '--model', 'weights', picture, 'What colour is this?', '--json'];
    expect(JSON.parse(run(cli, ...args))).toMatchObject({
      text: expect.stringMatching(/^ ?\w+$/),
      finishReason: 'stop',
    });
  });

  test('any size of picture, within the model’s and the request’s limits', () => {
    writeFileSync(
      join(folder, 'sizes.mjs'),
      `import { LLM } from 'ocelli';
      import './swatch.mjs';
      const llm = await LLM.load('weights');
      for (const [width, height] of [[1, 1], [1, 900], [900, 1], [64, 64], [65, 64], [200, 300], [4000, 3]]) {
        const image = { width, height, channels: 3, data: new Uint8Array(width * height * 3).fill(255) };
        for (const mmProcessorKwargs of [{}, { maxPatches: 1 }, { maxPatches: 7 }, { max_patches: 7 }]) {
          const { usage, outputs } = await llm.generate({ prompt: '<picture> What colour is it?', multiModalData: { image }, mmProcessorKwargs }, { temperature: 0 });
          const most = mmProcessorKwargs.maxPatches ?? mmProcessorKwargs.max_patches ?? 64;
          if (usage.imageTokens > most || usage.imageTokens < 1 || outputs[0].text.trim() !== 'white') throw new Error(width + 'x' + height);
        }
      }
      await llm.dispose();`,
    );
    run('sizes.mjs');
  });

  test('parts of built-in models are there to build on, in both module systems', () => {
    const names = "Object.keys(m).filter((n) => ['LlamaForCausalLM', 'towerOf', 'expandImages'].includes(n)).length";
    expect(run('-e', `const m = require('ocelli/models'); console.log(${names})`)).toBe('3\n');
    expect(run('--input-type=module', '-e', `import * as m from 'ocelli/models'; console.log(${names})`)).toBe('3\n');
  });
});
