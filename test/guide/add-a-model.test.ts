/** docs/add-a-model.md as its reader follows it: every block in order, in an empty folder, against the packed tarball. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../models/fixtures';
import { blocksOf, withBlock } from './blocks';

const work = mkdtempSync(join(tmpdir(), 'ocelli-guide-'));
const folder = join(work, 'empty');
let tarball = '';

beforeAll(() => {
  mkdirSync(folder);
  execFileSync('npm', ['pack', '--silent', '--pack-destination', work], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  tarball = join(
    work,
    readdirSync(work).find((file) => file.endsWith('.tgz'))!,
  );
});
afterAll(() => rmSync(work, { recursive: true }));

/** A shell with nothing of this checkout's npm run around it. */
function shell(command: string): string {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(npm_(package|lifecycle)|OCELLI_|NODE_OPTIONS|JEST_)/.test(name)),
  );
  const { status, stdout, stderr } = spawnSync('sh', ['-ec', command], { cwd: folder, env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command}\nended with ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

test('every block works, in order', () => {
  const files = new Map<string, string>();
  const texts: string[] = [];
  let printed = '';
  for (const block of blocksOf('docs/add-a-model.md')) {
    if (block.file !== undefined) {
      files.set(block.file, withBlock(files.get(block.file), block));
      writeFileSync(join(folder, block.file), files.get(block.file)!);
    } else if (block.language === 'sh') {
      printed = shell(block.code.replace(/^npm install ocelli$/m, `npm install --no-audit --no-fund '${tarball}'`));
    } else if (block.language === 'text') {
      expect(printed).toBe(block.code);
      texts.push(block.code);
    }
  }
  expect(texts).toHaveLength(1);
  expect([...files.keys()]).toEqual(['swatch.ts', 'make-weights.mjs', 'ask.mjs']);
  const figures = JSON.parse(readFileSync(join(folder, 'figures.json'), 'utf8')) as { architecture: string };
  expect(figures.architecture).toBe('SwatchForColourNaming');
  expect(printed).toContain('encoder:image:patches');
});
