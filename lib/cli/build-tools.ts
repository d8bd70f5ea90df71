/** What compiling the addon needs: found or not, and how to get it. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** The folder of the installed package (or of the clone). */
export const packageRoot = join(__dirname, '..', '..');

export interface BuildTool {
  name: string;
  /** Version and place; absent: missing. */
  found?: string;
  remedy: string;
}

/** Oldest CMake that CMakeLists.txt takes. */
const oldestCmake = [3, 20] as const;

type Packages = readonly [cmake: string, compiler: string, make: string];

/** How each system's package manager is asked, and what the packages are called there. */
const managers: readonly (readonly [ids: RegExp, command: string, packages: Packages])[] = [
  [/debian|ubuntu/, 'sudo apt-get install', ['cmake', 'g++', 'make']],
  [/fedora|rhel|centos/, 'sudo dnf install', ['cmake', 'gcc-c++', 'make']],
  [/alpine/, 'apk add', ['cmake', 'g++', 'make']],
  [/arch/, 'sudo pacman -S', ['cmake', 'gcc', 'make']],
  [/suse/, 'sudo zypper install', ['cmake', 'gcc-c++', 'make']],
];

export function buildTools(): BuildTool[] {
  const [cmake, compiler, make] = systemRemedies();
  return [
    { name: 'cmake', ...foundCmake(), remedy: cmake },
    { name: 'C++ compiler', ...foundProgram([process.env.CXX, 'c++', 'g++', 'clang++']), remedy: compiler },
    { name: 'make or ninja', ...foundProgram(['ninja', 'make']), remedy: make },
    ...['cmake-js', 'node-addon-api'].map((name) => ({
      name,
      ...foundPackage(name),
      remedy: 'npm install --save-dev cmake-js node-addon-api',
    })),
  ];
}

/** The folder of a package that the build uses, from the project that runs it or from this package. */
export function packageFolder(name: string): string | undefined {
  for (const from of [process.cwd(), packageRoot]) {
    try {
      return dirname(createRequire(join(from, 'package.json')).resolve(`${name}/package.json`));
    } catch {
      // The next place.
    }
  }
  return undefined;
}

function foundPackage(name: string): { found?: string } {
  const folder = packageFolder(name);
  if (folder === undefined) return {};
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string };
  return { found: `${version} in ${folder}` };
}

function firstLine(program: string): string | undefined {
  const result = spawnSync(program, ['--version'], { encoding: 'utf8', timeout: 10_000 });
  return result.status === 0 ? result.stdout.split('\n')[0]?.trim() : undefined;
}

function foundProgram(names: readonly (string | undefined)[]): { found?: string } {
  for (const name of names) {
    const line = name ? firstLine(name) : undefined;
    if (line !== undefined) return { found: line };
  }
  return {};
}

function foundCmake(): { found?: string } {
  const line = firstLine('cmake');
  const [major = 0, minor = 0] =
    /(\d+)\.(\d+)/
      .exec(line ?? '')
      ?.slice(1)
      .map(Number) ?? [];
  const [wantMajor, wantMinor] = oldestCmake;
  return line && (major > wantMajor || (major === wantMajor && minor >= wantMinor)) ? { found: line } : {};
}

function systemRemedies(): Packages {
  if (process.platform === 'darwin') return ['brew install cmake', 'xcode-select --install', 'xcode-select --install'];
  let release = '';
  try {
    release = readFileSync('/etc/os-release', 'utf8');
  } catch {
    // Not a Linux that says what it is.
  }
  const ids = [...release.matchAll(/^ID(?:_LIKE)?="?([^"\n]*)/gm)].map((match) => match[1]).join(' ');
  const manager = managers.find(([pattern]) => pattern.test(ids));
  if (!manager) return [`install CMake ${oldestCmake.join('.')} or newer`, 'install a C++17 compiler', 'install make'];
  const [, command, packages] = manager;
  return packages.map((name) => `${command} ${name}`) as unknown as Packages;
}
