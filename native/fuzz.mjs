// `npm run fuzz [-- --inputs N] [--seed S]`: what reads checkpoints, under AddressSanitizer and UndefinedBehaviorSanitizer, on N inputs each
// that are slightly wrong; without N as many as take half a minute each. Another seed gives other inputs, so that many may come in slices.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = join(root, 'out/native-fuzz');
const { values } = parseArgs({ options: { inputs: { type: 'string' }, seed: { type: 'string', default: '1' } } });
const usual = { gguf_fuzz_test: '500000', safetensors_fuzz_test: '800000' };
const drivers = Object.keys(usual);

function must(file, args, env = {}) {
  if (spawnSync(file, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } }).status === 0) return;
  process.stderr.write(`fuzz: failed: ${[file, ...args].join(' ')}\n`);
  process.exit(1);
}

must('cmake', [
  ...['-S', root, '-B', out, '-DCMAKE_BUILD_TYPE=Release', '-DOCELLI_NATIVE_TESTS=ON', '-DOCELLI_CPU=OFF'],
  '-DOCELLI_SANITIZE=address,undefined',
]);
must('cmake', ['--build', out, '--target', ...drivers, '--parallel', '2']);
// No input is as large as what one may ask for: an allocation of that size is one that a lie in the input made.
const options = {
  ASAN_OPTIONS: 'max_allocation_size_mb=64:allocator_may_return_null=0',
  UBSAN_OPTIONS: 'print_stacktrace=1',
};
for (const driver of drivers) must(join(out, driver), [values.inputs ?? usual[driver], values.seed], options);
