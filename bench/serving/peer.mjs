// node-llama-cpp with eight sequences, on the same shape and in the same run: `npm install --prefix bench` puts it there.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ids, median, round, shapes, spreadOf } from './engine.mjs';
import { writeGguf } from './gguf.mjs';

const sequences = 8;
const tokens = 64;

/** { tokensPerSecond, spread } or why there is none. In a process of its own: it leaves threads behind. */
export async function peerTokensPerSecond(shape, threads, repeat) {
  try {
    createRequire(import.meta.url).resolve('node-llama-cpp');
  } catch (e) {
    if (e.code === 'MODULE_NOT_FOUND') return { why: 'node-llama-cpp is not installed: npm install --prefix bench' };
  }
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-peer-'));
  try {
    const file = join(folder, 'model.gguf');
    writeGguf(file, shapes[shape]);
    const args = [JSON.stringify(file), threads ?? 0, repeat].join(', ');
    const script = `import(${JSON.stringify(import.meta.url)}).then((m) => m.measureLlamaCpp(${args}))`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let errors = '';
    child.stdout.on('data', (data) => (out += data));
    child.stderr.on('data', (data) => (errors += data));
    await new Promise((resolve) => child.on('close', resolve));
    const line = out.split('\n').find((text) => text.startsWith('{'));
    return line === undefined ? { why: errors.trim().split('\n').pop() } : JSON.parse(line);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export async function measureLlamaCpp(modelPath, threads, repeat) {
  const path = createRequire(import.meta.url).resolve('node-llama-cpp');
  const { getLlama, LlamaLogLevel } = await import(pathToFileURL(path).href);
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    logLevel: LlamaLogLevel.error,
    progressLogs: false,
    ...(threads ? { maxThreads: threads } : {}),
  });
  const model = await llama.loadModel({ modelPath });
  const context = await model.createContext({
    contextSize: 512,
    sequences,
    batchSize: 512,
    ...(threads ? { threads } : {}),
  });
  const all = Array.from({ length: sequences }, () => context.getSequence());
  const decode = async (sequence) => {
    const generated = sequence.evaluate([500], { temperature: 0, yieldEogToken: true });
    let count = 0;
    while (count < tokens && !(await generated.next()).done) count++;
    await generated.return();
    return count;
  };
  const found = [];
  for (let i = 0; i < repeat; i++) {
    for (const sequence of all) {
      await sequence.clearHistory();
      await sequence.evaluateWithoutGeneratingNewTokens(ids(64));
    }
    const started = performance.now();
    const counts = await Promise.all(all.map(decode));
    found.push((counts.reduce((a, b) => a + b, 0) / (performance.now() - started)) * 1000);
  }
  console.log(
    JSON.stringify({ peer: 'node-llama-cpp', tokensPerSecond: round(median(found)), spread: spreadOf(found) }),
  );
  process.exit(0);
}
