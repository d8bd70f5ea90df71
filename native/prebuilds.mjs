// `npm run prebuilds`, and npm's prepack: this platform's addon, stripped, under the name that node-gyp-build looks for inside the package
// (always with the libc's tag: a file without one is taken on musl too).
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
/** Node's own floor. */
const glibcFloor = [2, 28];

function run(file, args, optional = false) {
  // npm reads a tarball's listing from prepack's stdout; what is said here goes to stderr.
  const { status } = spawnSync(file, args, { cwd: root, stdio: ['ignore', 2, optional ? 'ignore' : 2] });
  if (status !== 0 && !optional) process.exit(status ?? 1);
}

function youngestGlibc(file) {
  const versions = [...readFileSync(file, 'latin1').matchAll(/GLIBC_(\d+)\.(\d+)/g)].map((m) => [+m[1], +m[2]]);
  return versions.sort((a, b) => b[0] - a[0] || b[1] - a[1])[0] ?? [0, 0];
}

run(process.execPath, ['native/setup.mjs']);
const musl = process.platform === 'linux' && !process.report.getReport().header.glibcVersionRuntime;
const libc = process.platform === 'linux' ? (musl ? '.musl' : '.glibc') : '';
const folder = join(root, 'prebuilds', `${process.platform}-${process.arch}`);
const target = join(folder, `ocelli${libc}.node`);
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
copyFileSync(join(root, 'build/Release/ocelli.node'), target);
chmodSync(target, 0o755);
if (process.platform === 'linux') {
  run('strip', ['--strip-unneeded', target], true);
  const [major, minor] = youngestGlibc(target);
  if (major > glibcFloor[0] || (major === glibcFloor[0] && minor > glibcFloor[1])) {
    process.stderr.write(
      `prebuilds: Expected symbols of glibc ${glibcFloor.join('.')} or older but ${target} needs ${major}.${minor}\n` +
        '  Add the function to native/compat/glibc.cc and to kWrapped in CMakeLists.txt (objdump -T shows which).\n',
    );
    process.exit(1);
  }
}
process.stderr.write(`prebuilds: ${target}\n`);
