// `npm run test:cuda [-- --require] [--update] [--ci] [NAME...]`: compiles the CUDA kernels and the test kernels to PTX, builds the emulator, and
// runs its tests (all, whole models and the resources of each kernel on each architecture, or those whose names contain a NAME). Needs
// nvcc and no GPU; whole models (NAME `models`) also the addon, which they build. Without nvcc it says so and ends well, or with --require badly. --update pins the resources anew. --ci leaves out
// whole models, the emulator's own speed and the machine code of each architecture: what takes minutes or an idle machine. --gpu[=LIBRARY]
// (`npm run gpu-check`) runs the ops on the GPU of a driver instead, libcuda.so.1 or another of its shape.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { architectures, checkResources } from './resources.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const out = join(root, 'out', 'cuda');
const ptx = join(out, 'ptx');
const args = process.argv.slice(2);
const names = args.filter((a) => !a.startsWith('--'));
const ci = args.includes('--ci');
const wanted = (name) =>
  names.length === 0 ? !(ci && /^(models|speed_test)$/.test(name)) : names.some((part) => name.includes(part));

function findNvcc() {
  const candidates = [process.env.NVCC, 'nvcc', process.env.CUDA_HOME && join(process.env.CUDA_HOME, 'bin', 'nvcc')];
  return candidates.find((c) => c && spawnSync(c, ['--version']).status === 0);
}

function fail(message) {
  process.stderr.write(`test:cuda: ${message}\n`);
  process.exit(1);
}

function must(file, parameters) {
  const result = spawnSync(file, parameters, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.status !== 0) fail(`${[file, ...parameters].join(' ')}\n${result.stdout ?? ''}${result.stderr ?? ''}`);
  return result.stdout;
}

/** What to compile: every kernel that ships, every kernel of the tests, and the defects once more with their defects. */
function units() {
  const found = [];
  for (const folder of ['native/cuda', 'native/ptx/test']) {
    if (!existsSync(join(root, folder))) continue;
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

async function compile(nvcc) {
  mkdirSync(ptx, { recursive: true });
  const version = must(nvcc, ['--version']);
  const headers = existsSync(join(root, 'native/cuda'))
    ? readdirSync(join(root, 'native/cuda')).filter((f) => f.endsWith('.cuh') || f.endsWith('.h'))
    : [];
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

const nvcc = findNvcc();
if (!nvcc) {
  const message = 'no nvcc (on PATH, as NVCC, or in CUDA_HOME): the CUDA kernels were neither compiled nor run';
  if (args.includes('--require')) fail(message);
  process.stdout.write(`test:cuda: ${message}\n`);
  process.exit(0);
}

const started = Date.now();
const seconds = () => ((Date.now() - started) / 1000).toFixed(1);
process.stdout.write(`test:cuda: ${await compile(nvcc)} files compiled to PTX, ${seconds()} s\n`);
const build = join(out, 'build');
const gpu = args.find((a) => a.startsWith('--gpu'));
/** Whose GPU it is: of the driver, or of its stand-in. */
const driver = gpu && (gpu.split('=')[1] ?? 'libcuda.so.1');
const real = driver === 'libcuda.so.1';
// The backend's library lies beside the driver's stand-in, or where the engine looks for it; drivers make machine code of its PTX.
const folder = real ? join(root, 'build', 'cuda') : build;
const cuda = ['-DOCELLI_CUDA=ON', '-DOCELLI_CPU=OFF', `-DOCELLI_CUDA_DIR=${folder}`, '-DOCELLI_CUDA_ARCHITECTURES='];
if (nvcc !== 'nvcc') cuda.push(`-DOCELLI_NVCC=${nvcc}`); // CMake finds that on PATH, too
must('cmake', ['-S', root, '-B', build, '-DCMAKE_BUILD_TYPE=Release', '-DOCELLI_PTX_TESTS=ON', ...cuda]);
// The engine alone loads the backend's library: ops are launched by tests that have the host halves in them.
const targets = ['ocelli_ptx_tests', ...(wanted('models') ? ['ocelli_cuda'] : [])];
must('cmake', ['--build', build, '--target', ...targets, '--parallel', '2']);
process.stdout.write(`test:cuda: emulator and tests built, ${seconds()} s\n`);

const total = { kernels: 0, instances: 0, checks: 0, failed: 0 };

/** Runs a test, on a driver's GPU where `library` names one, and adds its last line up. */
function runTest(test, library, prefix = []) {
  return runCommand(test, prefix, [...prefix, join(build, test), ptx, build, ...(library ? [library] : [])]);
}

function runCommand(test, prefix, [file, ...parameters], env = {}) {
  const options = { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28, env: { ...process.env, ...env } };
  const result = spawnSync(file, parameters, options);
  process.stdout.write(result.stdout);
  const line = /(\d+) kernels, (\d+) instances, (\d+) checks, (\d+) failed\n$/.exec(result.stdout);
  if (!line || (result.status !== 0 && line[4] === '0')) {
    process.stdout.write(`${test}: ended without a result (${result.signal ?? result.status})\n${result.stderr}`);
    total.failed++;
    return { test, ended: false };
  }
  const counts = {};
  ['kernels', 'instances', 'checks', 'failed'].forEach((key, i) => (counts[key] = Number(line[i + 1])));
  for (const key of Object.keys(total)) total[key] += counts[key];
  return { test, prefix: prefix[0], ...counts };
}

function wholeModels() {
  // Races are looked for where ops are tested; without that whole models run in a third of the time.
  const env = real ? { OCELLI_CUDA: '' } : { OCELLI_CUDA: 'emulated', OCELLI_EMULATED: 'races=0' };
  return runCommand('models', [], [process.execPath, 'out/test/cuda/main.js'], env);
}

/** The tests that launch ops by their host halves, and so run on any driver. */
const ops = ['attention_test', 'linear_test', 'linear_quantized_test', 'pictures_test', 'rows_test'].filter(wanted);

if (gpu) {
  const results = ops.map((test) => runTest(test, driver));
  if (real && spawnSync('compute-sanitizer', ['--version']).status === 0)
    for (const tool of ['memcheck', 'racecheck', 'initcheck'])
      for (const test of ops)
        results.push(runTest(test, driver, ['compute-sanitizer', '--tool', tool, '--error-exitcode', '9']));
  // Whole models need the addon, which a machine that was lent its folders cannot build.
  const built = ['build/Release/ocelli.node', 'out/test/cuda/main.js'].every((file) => existsSync(join(root, file)));
  const unbuilt = 'gpu-check: whole models were not run; `node native/setup.mjs --tests` builds what they need\n';
  if (wanted('models') && !built) process.stdout.write(unbuilt);
  else if (wanted('models')) results.push(wholeModels());
  writeFileSync(join(out, 'gpu-check.json'), `${JSON.stringify({ library: driver, results, total }, null, 2)}\n`);
  process.stdout.write(`gpu-check: ${total.checks} checks, ${total.failed} failed on ${driver}, ${seconds()} s\n`);
  process.exit(total.failed > 0 || total.checks === 0 ? 1 : 0);
}

const tests = readdirSync(join(root, 'native/ptx/test'))
  .filter((f) => f.endsWith('_test.cc'))
  .map((f) => f.slice(0, -3))
  .filter(wanted)
  .sort();
for (const test of tests) runTest(test);
const standin = join(build, process.platform === 'darwin' ? 'libocelli_standin.dylib' : 'libocelli_standin.so');
if (ops.length > 0) process.stdout.write('the same ops through the driver, on its stand-in:\n');
for (const test of ops) runTest(test, standin);
if (wanted('models')) {
  process.stdout.write("whole models with device: 'cuda', on the stand-in:\n");
  must(process.execPath, ['native/setup.mjs', '--tests']);
  wholeModels();
}
if (names.length === 0 && !ci) {
  const update = args.includes('--update');
  const result = await checkResources({ root, out, nvcc, version: must(nvcc, ['--version']), update });
  for (const problem of result.problems) process.stdout.write(`FAILED ${problem}\n`);
  process.stdout.write(
    `resources: ${result.kernels} kernels, ${result.instances} instances, ${result.checks} checks, ` +
      `${result.problems.length} failed; compiled for sm_${architectures.join(', sm_')}\n`,
  );
  for (const key of ['instances', 'checks']) total[key] += result[key];
  total.failed += result.problems.length;
}
process.stdout.write(
  `test:cuda: ${total.kernels} kernels, ${total.instances} instances, ${total.checks} checks, ` +
    `${total.failed} failed, ${seconds()} s; in the emulator, on no GPU\n`,
);
process.exitCode = total.failed > 0 || total.checks === 0 ? 1 : 0;
