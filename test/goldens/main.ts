/** `npm run goldens -- [--json] [--backend ref|cpu] [--dtype float32|bfloat16] [FOLDER...]` */
import { existsSync, readdirSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { shared } from '../media/pictures';
import type { Check } from './compare';
import { runFolder, type FolderReport } from './run';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    backend: { type: 'string', default: 'cpu' },
    dtype: { type: 'string', multiple: true, default: ['float32', 'bfloat16'] },
    threads: { type: 'string', default: '0' },
  },
});

function folders(): string[] {
  const root = join(shared, 'golden/models');
  const inside = (name: string): string => (isAbsolute(name) || existsSync(name) ? resolve(name) : join(root, name));
  const names = positionals.length > 0 ? positionals : readdirSync(root).sort();
  return names.map(inside).filter((f) => positionals.length > 0 || existsSync(join(f, 'cases.json')));
}

/** JSON has no infinity. */
const figures = (_: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
const figure = (n: number): string => (n === 0 || (Number.isInteger(n) && n < 1e6) ? String(n) : n.toExponential(2));
const checkText = (c: Check | undefined): string => (c ? `${c.what} ${figure(c.error)} of ${figure(c.bound)}` : '-');

function print(report: FolderReport): void {
  const line = (mark: string, name: string, what: string): void => {
    process.stdout.write(`${mark.padEnd(5)}${name.padEnd(44)}${what}\n`);
  };
  const title = `${report.folder} (${report.backend}, ${report.dtype})`;
  if (report.skipped !== undefined) return line(report.ok ? 'skip' : 'FAIL', title, report.skipped);
  line(report.ok ? 'ok' : 'FAIL', title, checkText(report.worst));
  for (const check of report.failures) line('', '', checkText(check));
  for (const c of report.cases) {
    line(c.ok ? '' : 'FAIL', `  ${c.name}`, checkText(c.worst));
    if (c.failures.length > 1) for (const check of c.failures) line('', '', checkText(check));
  }
}

async function main(): Promise<void> {
  const reports: FolderReport[] = [];
  for (const folder of folders()) {
    for (const dtype of values.dtype) {
      if (dtype !== 'float32' && dtype !== 'bfloat16') {
        process.stderr.write(`Expected float32 or bfloat16 for --dtype but received ${dtype}\n`);
        process.exitCode = 2;
        return;
      }
      const report = await runFolder(folder, { backend: values.backend, dtype, threads: Number(values.threads) });
      // What was asked for by name has to run.
      if (report.skipped !== undefined && positionals.length > 0) report.ok = false;
      reports.push(report);
      if (!values.json) print(report);
    }
  }
  const ok = reports.length > 0 && reports.every((r) => r.ok);
  if (values.json) process.stdout.write(`${JSON.stringify({ ok, reports }, figures, 1)}\n`);
  else
    process.stdout.write(
      `${reports.filter((r) => r.ok && !r.skipped).length} passed, ${reports.filter((r) => !r.ok).length} failed, ${reports.filter((r) => r.skipped).length} skipped\n`,
    );
  process.exitCode = ok ? 0 : 1;
}

main().catch((e: unknown) => {
  const { code, message, stack } = e as Error & { code?: string };
  process.stderr.write(`${code === undefined ? stack : `${code}: ${message}`}\n`);
  process.exitCode = 1;
});
