// What `npm run test:cuda` and `npm run gpu-check` share: nvcc, what it and the host's compiler make, and the sum of what tests print.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const out = join(root, 'out', 'cuda');
export const ptx = join(out, 'ptx');
export const build = join(out, 'build');
export const standin = join(build, process.platform === 'darwin' ? 'libocelli_standin.dylib' : 'libocelli_standin.so');

/** The tests that launch ops by their host halves, and so run on any driver. */
export const ops = [
  'attention_test',
  'linear_test',
  'linear_quantized_test',
  'pictures_test',
  'rows_test',
  'sample_test',
];

export function findNvcc() {
  const candidates = [process.env.NVCC, 'nvcc', process.env.CUDA_HOME && join(process.env.CUDA_HOME, 'bin', 'nvcc')];
  return candidates.find((c) => c && spawnSync(c, ['--version']).status === 0);
}

export function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

export function must(file, parameters) {
  const result = spawnSync(file, parameters, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.status !== 0) fail(`${[file, ...parameters].join(' ')}\n${result.stdout ?? ''}${result.stderr ?? ''}`);
  return result.stdout;
}

/** What to compile: every kernel that ships, every kernel of the tests, and the defects once more with their defects. */
function units() {
  const found = [];
  for (const folder of ['native/cuda', 'native/ptx/test']) {
    for (const file of readdirSync(join(root, folder)).filter((f) => f.endsWith('.cu'))) {
      const unit = { source: join(folder, file), name: file.slice(0, -3), flags: [] };
      if (unit.name !== 'defects') found.push(unit);
      else for (const d of [0, 1]) found.push({ ...unit, name: `defects${d}`, flags: [`-DDEFECT=${d}`] });
    }
  }
  // What the driver takes in earnest: machine code and PTX in one, here uncompressed, for the stand-in to read.
  const fatbin = ['-fatbin', '-gencode', 'arch=compute_80,code=[sm_80,compute_80]', '--no-compress'];
  found.push({ source: 'native/cuda/add.cu', name: 'add', flags: fatbin, kind: 'fatbin' });
  return found;
}

/** One virtual architecture, the lowest that ships: what is emulated is what every GPU's code is made from. */
const flags = ['-std=c++17', '-O3', '-lineinfo', '-Inative', '-Werror', 'all-warnings'];
const toPtx = ['-arch=compute_80', '-ptx'];

/** Compiles what changed to PTX; how many files that were. */
export async function compile(nvcc) {
  mkdirSync(ptx, { recursive: true });
  const version = must(nvcc, ['--version']);
  const headers = readdirSync(join(root, 'native/cuda')).filter((f) => f.endsWith('.cuh') || f.endsWith('.h'));
  const shared = headers.map((f) => readFileSync(join(root, 'native/cuda', f), 'utf8')).join('\0');
  const queue = units();
  let compiled = 0;
  const worker = async () => {
    for (let unit = queue.shift(); unit; unit = queue.shift()) {
      const text = readFileSync(join(root, unit.source), 'utf8');
      const kind = unit.kind ?? 'ptx';
      const how = kind === 'ptx' ? [...toPtx, ...unit.flags] : unit.flags;
      const parameters = [...flags, ...how, '-o', join(ptx, `${unit.name}.${kind}`), unit.source];
      const stamp = createHash('sha256')
        .update([version, shared, text, parameters.join(' ')].join('\0'))
        .digest('hex');
      const stampFile = join(ptx, `${unit.name}.${kind}.stamp`);
      if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) continue;
      compiled++;
      await new Promise((resolve) => {
        let output = '';
        const child = spawn(nvcc, parameters, { cwd: root });
        for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
        child.on('close', (code) => (code === 0 ? resolve() : fail(`${unit.source} does not compile\n${output}`)));
      });
      writeFileSync(stampFile, stamp);
    }
  };
  await Promise.all([worker(), worker()]);
  return compiled;
}

/** Builds targets of CMake's: the emulator with its tests, and the backend's library, with machine code for `architecture` beside its PTX. */
export function buildTargets(nvcc, targets, architecture = '') {
  const options = [`-DOCELLI_CUDA_DIR=${build}`, `-DOCELLI_CUDA_ARCHITECTURES=${architecture}`];
  if (nvcc !== 'nvcc') options.push(`-DOCELLI_NVCC=${nvcc}`); // CMake finds that on PATH, too
  const cuda = ['-DOCELLI_PTX_TESTS=ON', '-DOCELLI_CUDA=ON', '-DOCELLI_CPU=OFF', ...options];
  must('cmake', ['-S', root, '-B', build, '-DCMAKE_BUILD_TYPE=Release', ...cuda]);
  must('cmake', ['--build', build, '--target', ...targets, '--parallel', '2']);
}

/** What all tests printed in their last lines. */
export class Tally {
  total = { kernels: 0, instances: 0, checks: 0, failed: 0 };
  /** Of each test: its counts, the seconds that it took, and the lines of JSON that it printed. */
  results = [];

  /** Runs a test and adds it up. One that does not end in its `limit`, in milliseconds, has failed, unless it `may` be cut short. */
  run(test, [file, ...parameters], { env = {}, limit, may = false } = {}) {
    const started = Date.now();
    const options = { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28, timeout: limit, killSignal: 'SIGKILL' };
    const result = spawnSync(file, parameters, { ...options, env: { ...process.env, ...env } });
    const lines = result.stdout.split('\n');
    const records = lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
    process.stdout.write(lines.filter((line) => !line.startsWith('{')).join('\n'));
    const known = { test, seconds: (Date.now() - started) / 1000, ...(records.length > 0 ? { records } : {}) };
    const counts = /(\d+) kernels, (\d+) instances, (\d+) checks, (\d+) failed\n$/.exec(result.stdout);
    const killed = result.error?.code === 'ETIMEDOUT';
    if (killed && may) {
      process.stdout.write(`${test}: not at its end after ${known.seconds.toFixed(0)} s\n`);
      this.results.push({ ...known, ended: false });
    } else if (!counts || (result.status !== 0 && counts[4] === '0')) {
      process.stdout.write(`${test}: ended without a result (${result.signal ?? result.status})\n${result.stderr}`);
      this.total.failed++;
      this.results.push({ ...known, ended: false, failed: 1 });
    } else {
      ['kernels', 'instances', 'checks', 'failed'].forEach((key, i) => (known[key] = Number(counts[i + 1])));
      for (const key of Object.keys(this.total)) this.total[key] += known[key];
      this.results.push(known);
    }
  }
}
