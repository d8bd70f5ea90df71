// `npm run test:neon`: the kernels' driver built for 64-bit ARM and run under qemu: whether NEON computes what the others do, not how fast. Needs
// qemu-user and a cross compiler (Debian: apt-get install qemu-user g++-12-aarch64-linux-gnu); CXX_AARCH64 names another.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = join(root, 'out/native-neon');
const has = (file) => spawnSync(file, ['--version']).status === 0;
const compiler = [process.env.CXX_AARCH64, 'aarch64-linux-gnu-g++', 'aarch64-linux-gnu-g++-12'].find(
  (c) => c && has(c),
);

function must(file, args) {
  if (spawnSync(file, args, { cwd: root, stdio: 'inherit' }).status === 0) return;
  process.stderr.write(`neon: failed: ${[file, ...args].join(' ')}\n`);
  process.exit(1);
}

if (compiler === undefined || !has('qemu-aarch64')) {
  process.stderr.write(
    'neon: Expected qemu-aarch64 and a compiler for aarch64 but found not both. Install them (Debian: apt-get install qemu-user g++-12-aarch64-linux-gnu)\n',
  );
  process.exit(1);
}
must('cmake', [
  ...['-S', root, '-B', out, '-DCMAKE_BUILD_TYPE=Release', '-DOCELLI_NATIVE_TESTS=ON'],
  ...['-DCMAKE_SYSTEM_NAME=Linux', '-DCMAKE_SYSTEM_PROCESSOR=aarch64', `-DCMAKE_CXX_COMPILER=${compiler}`],
  '-DCMAKE_EXE_LINKER_FLAGS=-static',
]);
must('cmake', ['--build', out, '--target', 'cpu_test', '--parallel', '2']);
must('qemu-aarch64', [join(out, 'cpu_test')]);
