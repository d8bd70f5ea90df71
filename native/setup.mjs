// What `npm run demo` and `npm test` begin with: tools present, packages installed, addon and TypeScript built. Quick when there is
// nothing to do. Node built-ins only: it runs before anything is installed.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const withTests = process.argv.includes('--tests');
const out = join(root, 'out');
const lock = join(out, 'setup.lock');
const stampFile = join(root, 'node_modules', '.ocelli-stamp');

function fail(message, remedy) {
  process.stderr.write(`set-up: ${message}\n${remedy ? `  ${remedy}\n` : ''}`);
  process.exitCode = 1;
  throw new SetupFailed();
}
class SetupFailed extends Error {}

function say(message) {
  process.stderr.write(`set-up: ${message}\n`);
}

function version(command) {
  const result = spawnSync(command, ['--version'], { encoding: 'utf8' });
  return result.status === 0 ? result.stdout.split('\n')[0] : undefined;
}

function checkTools() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const fits = major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19);
  if (!fits)
    fail(
      `Node >= 20.19 (or >= 22.12) is needed, this is ${process.versions.node}`,
      'Install a newer Node.js from nodejs.org.',
    );
  const missing = [];
  if (!version('cmake')) missing.push('cmake');
  if (![process.env.CXX, 'c++', 'g++', 'clang++'].some((c) => c && version(c))) missing.push('a C++17 compiler');
  if (missing.length === 0) return;
  const remedies = {
    linux: 'Debian/Ubuntu: sudo apt-get install cmake g++ make · Fedora: sudo dnf install cmake gcc-c++ make',
    darwin: 'xcode-select --install && brew install cmake',
  };
  fail(`missing: ${missing.join(', ')}`, remedies[process.platform] ?? 'Install CMake >= 3.20 and a C++17 compiler.');
}

function run(title, file, args) {
  say(title);
  const started = Date.now();
  const result = spawnSync(file, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28, env: process.env });
  if (result.status !== 0) {
    process.stderr.write(
      (result.stdout ?? '').split('\n').slice(-60).join('\n') +
        (result.stderr ?? '') +
        (result.error ? `${result.error}\n` : ''),
    );
    fail(`${title}: failed`, `Command: ${[file, ...args].join(' ')}`);
  }
  say(`${title}: done in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

function install() {
  const stamp = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .update(`${process.platform}-${process.arch}`)
    .digest('hex');
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return;
  const args = ['ci', '--ignore-scripts', '--include=dev', '--no-audit', '--no-fund'];
  const npm = process.env.npm_execpath;
  if (npm && /\.c?js$/.test(npm)) run('installing packages', process.execPath, [npm, ...args]);
  else run('installing packages', process.platform === 'win32' ? 'npm.cmd' : 'npm', args);
  writeFileSync(stampFile, stamp);
}

/** tsc leaves the output of a source that is gone: it would be packed, or run as a test. */
function removeOrphans(outputs, sources) {
  for (const entry of readdirSync(outputs, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const stem = relative(outputs, path).replace(/(\.d\.ts|\.js|\.js\.map)$/, '');
    if (!existsSync(join(sources, `${stem}.ts`))) rmSync(path);
  }
}

/** One set-up at a time in a clone; a lock whose process is gone is taken over. */
function acquire() {
  mkdirSync(out, { recursive: true });
  for (let waited = 0; ; waited += 200) {
    try {
      mkdirSync(lock);
      writeFileSync(join(lock, 'pid'), String(process.pid));
      return;
    } catch (e) {
      if (e.code !== 'EEXIST') throw e;
    }
    let pid = NaN;
    try {
      pid = Number(readFileSync(join(lock, 'pid'), 'utf8'));
    } catch {
      // The other run is between mkdir and write.
    }
    if (waited === 0) say(`another set-up is running${pid ? ` (process ${pid})` : ''}; waiting`);
    if (pid && !alive(pid)) rmSync(lock, { recursive: true, force: true });
    else if (waited > 15 * 60_000) fail('another set-up did not end in 15 minutes', `If none runs, delete ${lock}.`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  }
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (e) {
    return e.code === 'EPERM';
  }
}

try {
  checkTools();
  acquire();
  try {
    install();
    const node = process.execPath;
    run('building the native addon', node, [
      'node_modules/cmake-js/bin/cmake-js',
      'build',
      '-O',
      'out/native',
      '-T',
      'ocelli',
      '--CDCMAKE_BUILD_PARALLEL_LEVEL=2',
    ]);
    run('compiling TypeScript', node, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json']);
    removeOrphans(join(root, 'dist'), join(root, 'lib'));
    if (withTests) {
      // It links what the addon is made of; test/engine runs it.
      run('configuring the replay of traces', 'cmake', ['-DOCELLI_NATIVE_TESTS=ON', 'out/native']);
      run('building the replay of traces', 'cmake', ['--build', 'out/native', '--target', 'scheduler_test']);
      run('compiling the tests', node, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.test.json']);
      removeOrphans(join(out, 'test'), join(root, 'test'));
      // Compiled tests lie one folder deeper than their sources and find dist at the same relative path.
      if (!existsSync(join(out, 'dist'))) symlinkSync(join(root, 'dist'), join(out, 'dist'), 'junction');
    }
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
} catch (e) {
  if (!(e instanceof SetupFailed)) throw e;
}
