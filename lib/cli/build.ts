/** `ocelli build`: the addon for this machine, in the installed package, where no prebuilt binary fits. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { OcelliError } from '../errors';
import { buildTools, packageFolder, packageRoot } from './build-tools';
import { Interrupted, stoppable } from './outcome';
import { note, seconds, StatusLine } from './terminal';

export function addBuildCommand(program: Command): void {
  program
    .command('build')
    .description('compiles the native part on this machine, where no prebuilt binary fits')
    .option('--force', 'compile even though a binary loads')
    .action(build);
}

async function build({ force }: { force?: boolean }): Promise<void> {
  const loaded = loadedBinary();
  if (loaded !== undefined && !force) {
    note(`A native binary loads already: ${loaded}. Nothing to do (--force compiles all the same).`);
    return;
  }
  const missing = buildTools().filter((tool) => tool.found === undefined);
  if (missing.length > 0) {
    throw new OcelliError(
      'ERR_BUILD_TOOLS',
      `Expected what a build needs but these are missing: ${missing.map((tool) => tool.name).join(', ')}`,
      { hint: `${[...new Set(missing.map((tool) => tool.remedy))].join('; ')}.` },
    );
  }
  const started = performance.now();
  await compile();
  const binary = loadedBinary();
  if (binary === undefined)
    throw new OcelliError('ERR_BUILD', 'Expected the compiled binary to load but it does not', {
      hint: 'ocelli doctor says why.',
    });
  // Objects are of no use in an installed package; in a clone they make the next build quick.
  if (!existsSync(join(packageRoot, 'native', 'setup.mjs')))
    rmSync(join(packageRoot, 'out'), { recursive: true, force: true });
  note(`Compiled in ${seconds(performance.now() - started)}: ${binary}`);
}

/** The binary that a fresh process loads; in this one an earlier failure or success would stay. */
function loadedBinary(): string | undefined {
  const script = `const load = require('node-gyp-build'); load(process.argv[1]); console.log(load.resolve(process.argv[1]));`;
  const result = spawnSync(process.execPath, ['-e', script, packageRoot], { cwd: packageRoot, encoding: 'utf8' });
  return result.status === 0 ? result.stdout.trim() : undefined;
}

async function compile(): Promise<void> {
  const cmakeJs = join(packageFolder('cmake-js') as string, 'bin', 'cmake-js');
  const args = [cmakeJs, 'build', '-O', 'out/native', '-T', 'ocelli'];
  args.push(`--CDOCELLI_NODE_ADDON_API=${packageFolder('node-addon-api')}`, '--CDCMAKE_BUILD_PARALLEL_LEVEL=2');
  const status = new StatusLine();
  if (!process.stderr.isTTY) note('Compiling; this takes a few minutes.');
  const child = spawn(process.execPath, args, { cwd: packageRoot, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const collect = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-20_000);
    const progress = [...chunk.toString().matchAll(/\[[\s\d]+%\][^\n]*|\[\d+\/\d+\][^\n]*/g)].pop();
    if (progress) status.show(`compiling ${progress[0]}`);
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  let interrupted = false;
  const code = await stoppable(
    () => {
      interrupted = true;
      child.kill();
    },
    () =>
      new Promise<number | null>((resolve, reject) => {
        child.on('error', reject);
        child.on('close', resolve);
      }),
  );
  status.clear();
  if (interrupted) throw new Interrupted();
  if (code === 0) return;
  note(output.trimEnd().split('\n').slice(-40).join('\n'));
  throw new OcelliError('ERR_BUILD', `Expected the build to end with 0 but received ${String(code)}`, {
    hint: `The compiler's words are above; the command was: node ${args.join(' ')}`,
  });
}
