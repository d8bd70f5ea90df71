/**
 * What `npm run gpu-check -- --pack` makes, on a machine that has neither node nor a compiler: unpacked elsewhere, with a PATH of next to
 * nothing, and the driver's stand-in for a GPU.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../models/fixtures';
import { check, counts } from './checks';

interface Timing {
  name: string;
  us: number;
  roof_us: number;
  share: number;
  bound: string;
}
interface Result {
  test: string;
  checks: number;
  failed: number;
  records?: Timing[];
}

const packed = spawnSync(process.execPath, ['native/ptx/gpu_check.mjs', '--pack'], { cwd: root, encoding: 'utf8' });
const size = Number(/([\d.]+) MiB/.exec(packed.stdout)?.[1] ?? NaN);
check(packed.status === 0 && size < 64, `packing: ${packed.stdout}${packed.stderr}`);

const folder = mkdtempSync(join(tmpdir(), 'ocelli-gpu-check-'));
try {
  spawnSync('tar', ['-xJf', join(root, 'out/gpu-check.tar.xz'), '-C', folder]);
  mkdirSync(join(folder, 'bin'));
  symlinkSync(spawnSync('which', ['dirname'], { encoding: 'utf8' }).stdout.trim(), join(folder, 'bin/dirname'));
  const kit = join(folder, 'gpu-check');
  for (const file of ['linear_test', 'timings', 'libocelli_cuda.so']) {
    const { stdout } = spawnSync('nm', ['-D', join(kit, 'out/cuda/build', file)], { encoding: 'utf8' });
    const versions = [...stdout.matchAll(/@GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]));
    check(versions.length > 0 && Math.max(...versions) <= 34, `${file} needs glibc 2.${Math.max(...versions)}`);
  }
  const driver = `--driver=${join(kit, 'out/cuda/build/libocelli_standin.so')}`;
  const { stdout, stderr, status } = spawnSync(join(kit, 'run'), [driver, 'timings', 'pictures', 'models/llama'], {
    cwd: folder,
    encoding: 'utf8',
    env: { PATH: join(folder, 'bin'), OUT: folder },
  });
  check(status === 0, `the check elsewhere: ${stdout}${stderr}`);
  const report = JSON.parse(readFileSync(join(folder, 'gpu-check.json'), 'utf8')) as {
    device: string;
    total: { failed: number };
    results: Result[];
  };
  check(report.device === 'PTX emulator' && report.total.failed === 0, `its device: ${report.device}`);
  for (const name of ['pictures_test', 'timings', 'models']) {
    const result = report.results.find(({ test }) => test === name);
    check(result !== undefined && result.checks > 0 && result.failed === 0, `${name}: ${JSON.stringify(result)}`);
  }
  const [device, ...timings] = report.results.find(({ test }) => test === 'timings')?.records ?? [];
  check(device !== undefined && !('us' in device), 'timings begin with what the GPU can do');
  for (const kernel of [
    'linear bf16, 1 rows',
    'linear i4, 16 rows',
    'attention, 1 x 1 rows of 300 positions',
    'rms_norm',
  ])
    check(
      timings.some(
        ({ name, us, roof_us, share, bound }) =>
          name.startsWith(kernel) && us > 0 && Math.abs(share * us - roof_us) <= 0.01 * roof_us && bound !== '',
      ),
      `a time of ${kernel}`,
    );
  process.stdout.write(
    `gpu_check: ${size} MiB carried; 0 kernels, 0 instances, ${counts.checks} checks, ${counts.failed} failed\n`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = counts.failed > 0 ? 1 : 0;
