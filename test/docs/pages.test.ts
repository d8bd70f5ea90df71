/** The code of docs/getting-started.md and of the README runs as it stands: all JavaScript blocks of a page, one inside the other. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../models/fixtures';

const samples = join(root, 'models', 'demo', 'samples');
const folder = mkdtempSync(join(tmpdir(), 'ocelli-docs-'));
copyFileSync(join(samples, 'red-ring.png'), join(folder, 'picture.png'));
afterAll(() => rmSync(folder, { recursive: true }));

/** What a page's blocks take for granted. */
const prelude = `
const { readFileSync } = require('node:fs');
const llm = await require('ocelli').LLM.load('demo');
const bytesOfAPicture = readFileSync('picture.png');
const prompt = 'USER: What color is the ring? ASSISTANT:';
const prompts = [prompt, { prompt }];
const stream = llm.stream(prompt);
const shorten = (text) => text.slice(0, 100);
`;

function runPage(page: string): { status: number | null; stdout: string; stderr: string } {
  const text = readFileSync(join(root, page), 'utf8');
  const blocks = [...text.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map((match) => match[1] as string);
  expect(blocks.length).toBeGreaterThan(0);
  const nested = blocks.map((block) => `{\n${block}`).join('\n') + '}'.repeat(blocks.length);
  const script = `(async () => {${prelude}${nested}})();`.replaceAll("'ocelli'", JSON.stringify(root));
  writeFileSync(join(folder, 'page.cjs'), script);
  return spawnSync(process.execPath, ['page.cjs'], { cwd: folder, encoding: 'utf8', timeout: 50_000 });
}

test.each(['README.md', 'docs/getting-started.md', 'docs/errors.md', 'docs/observing.md'])('%s', (page) => {
  const { status, stdout, stderr } = runPage(page);
  expect([status, stderr]).toEqual([0, '']);
  const says: Record<string, RegExp> = {
    'README.md': /^ ?Three\.$/m,
    'docs/getting-started.md': /^ ?Three\.$[^]*No\./m,
  };
  expect(stdout).toMatch(says[page] ?? /^/);
});
