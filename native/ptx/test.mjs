// `npm run test:cuda [-- --require] [--update] [--ci] [NAME...]`: compiles the CUDA kernels and the test kernels to PTX, builds the emulator, and
// runs its tests (all, whole models and the resources of each kernel on each architecture, or those whose names contain a NAME). Needs
// nvcc and no GPU; whole models (NAME `models`) also the addon, which they build. Without nvcc it says so and ends well, or with --require badly. --update pins the resources anew. --ci leaves out
// whole models, the emulator's own speed and the machine code of each architecture: what takes minutes or an idle machine.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { architectures, checkResources } from './resources.mjs';
import {
  Tally,
  build,
  buildTargets,
  compile,
  fail,
  findNvcc,
  must,
  ops,
  out,
  ptx,
  root,
  standin,
} from './toolchain.mjs';

const args = process.argv.slice(2);
const names = args.filter((a) => !a.startsWith('--'));
const ci = args.includes('--ci');
const wanted = (name) =>
  names.length === 0
    ? !(ci && /^(models|gpu_check|speed_test)$/.test(name))
    : names.some((part) => name.includes(part));

const nvcc = findNvcc();
if (!nvcc) {
  const message =
    'test:cuda: no nvcc (on PATH, as NVCC, or in CUDA_HOME): the CUDA kernels were neither compiled nor run';
  if (args.includes('--require')) fail(message);
  process.stdout.write(`${message}\n`);
  process.exit(0);
}

const started = Date.now();
const seconds = () => ((Date.now() - started) / 1000).toFixed(1);
process.stdout.write(`test:cuda: ${await compile(nvcc)} files compiled to PTX, ${seconds()} s\n`);
// The engine alone loads the backend's library: ops are launched by tests that have the host halves in them.
const whole = ['models', 'gpu_check'].filter(wanted);
buildTargets(nvcc, ['ocelli_ptx_tests', ...(whole.length > 0 ? ['ocelli_cuda'] : [])]);
process.stdout.write(`test:cuda: emulator and tests built, ${seconds()} s\n`);

const tally = new Tally();
const tests = readdirSync(join(root, 'native/ptx/test'))
  .filter((f) => f.endsWith('_test.cc'))
  .map((f) => f.slice(0, -3))
  .filter(wanted)
  .sort();
for (const test of tests) tally.run(test, [join(build, test), ptx, build]);
const launched = [...ops, 'timings'].filter(wanted);
if (launched.length > 0) process.stdout.write('through the driver, on its stand-in:\n');
for (const test of launched) tally.run(test, [join(build, test), ptx, build, standin, 'tiny']);
if (whole.length > 0) must(process.execPath, ['native/setup.mjs', '--tests']);
if (wanted('models')) {
  process.stdout.write("whole models with device: 'cuda', on the stand-in:\n");
  // Races are looked for where ops are tested; without that whole models run in a third of the time.
  const env = { OCELLI_CUDA: 'emulated', OCELLI_EMULATED: 'races=0' };
  tally.run('models', [process.execPath, 'out/test/cuda/main.js'], { env });
}
if (wanted('gpu_check')) tally.run('gpu_check', [process.execPath, 'out/test/cuda/gpu-check.js']);
if (names.length === 0 && !ci) {
  const update = args.includes('--update');
  const result = await checkResources({ root, out, nvcc, version: must(nvcc, ['--version']), update });
  for (const problem of result.problems) process.stdout.write(`FAILED ${problem}\n`);
  process.stdout.write(
    `resources: ${result.kernels} kernels, ${result.instances} instances, ${result.checks} checks, ` +
      `${result.problems.length} failed; compiled for sm_${architectures.join(', sm_')}\n`,
  );
  for (const key of ['instances', 'checks']) tally.total[key] += result[key];
  tally.total.failed += result.problems.length;
}
const took = tally.results.map((result) => `${result.test} ${result.seconds.toFixed(1)} s`);
process.stdout.write(`test:cuda: ${took.join(', ')}\n`);
const { kernels, instances, checks, failed } = tally.total;
process.stdout.write(
  `test:cuda: ${kernels} kernels, ${instances} instances, ${checks} checks, ` +
    `${failed} failed, ${seconds()} s; in the emulator, on no GPU\n`,
);
process.exitCode = failed > 0 || checks === 0 ? 1 : 0;
