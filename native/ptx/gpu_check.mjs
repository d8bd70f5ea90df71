// `npm run gpu-check [-- --driver=LIBRARY] [--pack] [NAME...]`: for the day a GPU is there. Ops and whole models on it, through its driver, and
// what the main kernels take beside the roofline, cuBLAS and torch where those are; then compute-sanitizer where it is, as far as ten minutes
// go. All, or what has a NAME in its name, `models/llama` for one model. Writes gpu-check.json into $OUT, else into bench/gpu by the GPU's name. --driver: another library than
// libcuda.so.1, such as the stand-in of `npm run test:cuda`. --pack writes out/gpu-check.tar.xz instead: node, this script and all that it
// needs, for a machine with a driver and nothing else; `tar xJf gpu-check.tar.xz && gpu-check/run` there.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { Tally, build, buildTargets, compile, fail, findNvcc, must, ops, root } from './toolchain.mjs';

const args = process.argv.slice(2);
const names = args.filter((a) => !a.startsWith('--'));
const wanted = (name) => names.length === 0 || names.some((part) => name.includes(part.split('/')[0]));
const driver = args.find((a) => a.startsWith('--driver='))?.slice('--driver='.length) ?? 'libcuda.so.1';
const real = driver === 'libcuda.so.1';
const library = 'libocelli_cuda.so';
const started = Date.now();
const seconds = () => (Date.now() - started) / 1000;
const left = () => 570 - seconds(); // of ten minutes

const output = (file, ...parameters) => {
  const result = spawnSync(file, parameters, { encoding: 'utf8' });
  return result.status === 0 ? result.stdout.trim() : undefined;
};

/** Everything that is compiled: here, or on the machine that packed it. */
async function compileAll() {
  const nvcc = findNvcc();
  if (!nvcc)
    fail(
      'gpu-check: no nvcc (on PATH, as NVCC, or in CUDA_HOME); `npm run gpu-check -- --pack` where one is makes what needs none',
    );
  await compile(nvcc);
  // Machine code for the GPU that is here; drivers make it of PTX for others.
  const capability = output('nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader')?.split('\n')[0];
  const architecture = args.find((a) => a.startsWith('--architecture='))?.split('=')[1] ?? capability?.replace('.', '');
  buildTargets(nvcc, ['ocelli_ptx_tests', 'ocelli_cuda'], architecture);
  must(process.execPath, ['native/setup.mjs', '--tests']);
}

/** A folder that is this checkout as far as the checks go, with node, as one file. */
function pack() {
  const kit = join(root, 'out', 'gpu-check');
  rmSync(kit, { recursive: true, force: true });
  const packages = spawnSync('npm', ['ls', '--omit=dev', '--all', '--parseable'], { cwd: root, encoding: 'utf8' });
  const carried = [
    ...['package.json', 'dist', 'models/demo', 'build/Release/ocelli.node', 'out/test', 'native/ptx/torch_peer.py'],
    ...['native/ptx/gpu_check.mjs', 'native/ptx/toolchain.mjs'],
    ...['llama', 'llava-1.5', 'llava-next-llama', 'llava-next-mistral'].map((name) => `test/fixtures/models/${name}`),
    ...[...ops, 'timings', 'images', library, 'libocelli_standin.so'].map((name) => `out/cuda/build/${name}`),
    ...packages.stdout
      .split('\n')
      .slice(1)
      .filter(Boolean)
      .map((path) => relative(root, path)),
  ].filter((path) => existsSync(join(root, path)));
  for (const path of carried)
    cpSync(join(root, path), join(kit, path), { recursive: true, filter: (from) => !from.endsWith('.ptx') });
  symlinkSync('../dist', join(kit, 'out', 'dist'));
  cpSync(process.execPath, join(kit, 'node'));
  const run = '#!/bin/sh\ncd "$(dirname "$0")" && exec ./node native/ptx/gpu_check.mjs "$@"\n';
  writeFileSync(join(kit, 'run'), run, { mode: 0o755 });
  const file = join(root, 'out', 'gpu-check.tar.xz');
  must('tar', ['-C', join(root, 'out'), '-I', 'xz -T0 -3', '-cf', file, 'gpu-check']);
  process.stdout.write(
    `gpu-check: ${file}, ${(statSync(file).size / 2 ** 20).toFixed(1)} MiB, ${seconds().toFixed(1)} s\n`,
  );
}

function check() {
  const tally = new Tally();
  const images = join(build, 'images');
  const onDriver = (test) => [join(build, test), images, build, driver];
  const limit = () => Math.max(1, left() * 1000);
  const small = real ? [] : ['tiny'];
  for (const test of ops.filter(wanted)) tally.run(test, onDriver(test), { limit: limit() });
  if (wanted('timings')) tally.run('timings', [...onDriver('timings'), ...small], { limit: limit() });
  const python = ['python3', join(root, 'native/ptx/torch_peer.py')];
  if (wanted('torch') && output(...python, '--found') !== undefined) tally.run('torch', python, { limit: limit() });
  if (wanted('models')) {
    // The engine takes the library from where `npm run build:cuda` leaves it, and for the stand-in from beside that.
    const folder = join(root, 'build', 'cuda');
    mkdirSync(folder, { recursive: true });
    if (real) cpSync(join(build, library), join(folder, library));
    const env = real ? { OCELLI_CUDA: '' } : { OCELLI_CUDA: 'emulated', OCELLI_EMULATED: 'races=0' };
    const some = names.filter((name) => name.startsWith('models/')).map((name) => name.slice('models/'.length));
    tally.run('models', [process.execPath, 'out/test/cuda/main.js', ...some], { env, limit: limit() });
  }
  // It takes its time: what is not at its end by then is said to be so.
  const places = ['compute-sanitizer', '/usr/local/cuda/bin/compute-sanitizer'];
  const sanitizer = real && places.find((place) => output(place, '--version') !== undefined);
  for (const tool of sanitizer ? ['memcheck', 'racecheck', 'initcheck', 'synccheck'] : []) {
    for (const test of ops.filter(wanted)) {
      const command = [sanitizer, '--tool', tool, '--error-exitcode', '9', ...onDriver(test)];
      if (left() > 5) tally.run(`${tool}, ${test}`, command, { limit: limit(), may: true });
    }
  }
  return tally;
}

const carried = existsSync(join(root, 'node'));
if (!carried) await compileAll();
if (args.includes('--pack')) {
  pack();
} else {
  const { total, results } = check();
  const device = results.find(({ test }) => test === 'timings')?.records?.[0]?.device;
  const name = device?.toLowerCase().replace(/[^a-z0-9]+/g, '-') ?? 'gpu-check';
  const file = process.env.OUT ? join(process.env.OUT, 'gpu-check.json') : join(root, 'bench', 'gpu', `${name}.json`);
  mkdirSync(dirname(file), { recursive: true });
  const driverVersion = output('nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader');
  const about = { device, driver, ...(driverVersion ? { nvidia: driverVersion } : {}), seconds: seconds(), total };
  writeFileSync(file, `${JSON.stringify({ ...about, results }, null, 2)}\n`);
  process.stdout.write(
    `gpu-check: ${total.kernels} kernels, ${total.instances} instances, ${total.checks} checks, ${total.failed} failed ` +
      `on ${device ?? driver}, ${seconds().toFixed(1)} s; ${file}\n`,
  );
  process.exitCode = total.failed > 0 || total.checks === 0 ? 1 : 0;
}
