// `npm run test:native [-- --sanitize[=thread]] [-- --long]`: the drivers in native/test, and with --sanitize the op and picture
// tests of test/native once more, on an addon built with the sanitizers. Everything lands in out/, apart from the addon that the package loads.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const long = process.argv.includes('--long') ? ['--long'] : [];
const flag = process.argv.slice(2).find((a) => a.startsWith('--sanitize'));
const sanitize = flag ? (flag.split('=')[1] ?? 'address,undefined') : '';
const name = sanitize ? `native-${sanitize.split(',')[0]}` : 'native-tests';
const out = join(root, 'out', name);

let passed = 0;
const failed = [];

function run(file, args, env = {}) {
  return spawnSync(file, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } }).status === 0;
}

function must(file, args) {
  if (run(file, args)) return;
  process.stderr.write(`native tests: failed: ${[file, ...args].join(' ')}\n`);
  process.exit(1);
}

function check(title, ok) {
  if (ok) passed++;
  else failed.push(title);
}

/** The sanitizer's runtime has to come before everything else in a process that loads the addon, so it is preloaded. */
function runtime(library) {
  const compiler = [process.env.CXX, 'c++', 'g++', 'clang++'].find(
    (c) => c && spawnSync(c, ['--version']).status === 0,
  );
  const path = spawnSync(compiler, [`-print-file-name=${library}`], { encoding: 'utf8' }).stdout.trim();
  if (!existsSync(path)) throw new Error(`Expected the compiler to have ${library} but received ${path}`);
  return path;
}

const options = {
  // Stand-ins for stack frames are not aligned to the 64 bytes that spilled vectors need (gcc's bug 110027): a store into one faults.
  ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=0:detect_stack_use_after_return=0',
  UBSAN_OPTIONS: 'print_stacktrace=1',
  TSAN_OPTIONS: 'halt_on_error=1:second_deadlock_stack=1',
};

const cmake = ['-DCMAKE_BUILD_TYPE=Release', '-DOCELLI_NATIVE_TESTS=ON', `-DOCELLI_SANITIZE=${sanitize}`];
must('cmake', ['-S', root, '-B', out, ...cmake]);
must('cmake', ['--build', out, '--target', 'ocelli_native_tests', '--parallel', '2']);
const drivers = existsSync(join(root, 'native/test'))
  ? readdirSync(join(root, 'native/test')).filter((f) => f.endsWith('_test.cc'))
  : [];
for (const driver of drivers.sort()) {
  const title = driver.slice(0, -3);
  process.stdout.write(`native test ${title}\n`);
  check(title, run(join(out, title), long, { ...options, ASAN_OPTIONS: 'detect_leaks=1' }));
}

if (sanitize) {
  const addon = join(out, 'addon');
  must(process.execPath, [
    'node_modules/cmake-js/bin/cmake-js',
    'build',
    '-O',
    join(addon, 'cmake'),
    '-T',
    'ocelli',
    `--CDOCELLI_SANITIZE=${sanitize}`,
    `--CDOCELLI_ADDON_DIR=${join(addon, 'build/Release')}`,
    '--CDCMAKE_BUILD_PARALLEL_LEVEL=2',
  ]);
  const preload = sanitize.startsWith('thread') ? 'libtsan.so' : 'libasan.so';
  const jest = ['node_modules/jest/bin/jest.js', '--runInBand', '--testTimeout=300000', 'out/test/native'];
  // node-gyp-build looks for the addon where <NAME>_PREBUILD says.
  const env = { ...options, LD_PRELOAD: runtime(preload), OCELLI_PREBUILD: addon };
  check(`out/test/native under ${sanitize}`, run(process.execPath, jest, env));
}

for (const title of failed) process.stdout.write(`failed: ${title}\n`);
process.stdout.write(`native tests: ${passed} passed, ${failed.length} failed\n`);
process.exitCode = failed.length > 0 ? 1 : 0;
