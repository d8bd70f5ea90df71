/** Folders through all their cases, and what came of it. */
import { OcelliError } from '../../dist/index';
import { nativeError } from '../../dist/native';
import { checkCase, type Step } from './check';
import { failed, worst, type Check } from './compare';
import { readGoldenFolder, type GoldenCase } from './folder';
import { GoldenModel, type Setting } from './model';

export interface CaseReport {
  name: string;
  ok: boolean;
  worst?: Check;
  failures: Check[];
}

export interface FolderReport extends Setting {
  folder: string;
  ok: boolean;
  /** Why nothing was compared. */
  skipped?: string;
  worst?: Check;
  /** Of the folder as a whole. */
  failures: Check[];
  cases: CaseReport[];
}

/**
 * What no model of the library is for is skipped, and said; any other error is a failure of its case or folder.
 * @param checkpoint another form of the folder's weights and configuration
 * @param only which cases that form can answer
 */
export async function runFolder(
  path: string,
  setting: Setting,
  checkpoint = path,
  only: (golden: GoldenCase) => boolean = () => true,
): Promise<FolderReport> {
  const folder = readGoldenFolder(path);
  const report: FolderReport = { folder: folder.name, ...setting, ok: true, failures: [], cases: [] };
  let model: GoldenModel;
  try {
    model = await GoldenModel.load(checkpoint, setting);
  } catch (e) {
    if (OcelliError.is(e) && e.code === 'ERR_CONFIG') return { ...report, skipped: e.message };
    if (OcelliError.is(e) && e.code === 'ERR_UNKNOWN_ARCHITECTURE')
      return { ...report, skipped: `no model for ${folder.architectures.join(', ')}` };
    return { ...report, ok: false, worst: thrown(e), failures: [thrown(e)] };
  }
  const steps: Step[] = [];
  const all: Check[] = [];
  try {
    for (const golden of folder.cases.filter(only)) {
      const result = await checkCase(model, folder, golden).catch((e: unknown) => ({ checks: [thrown(e)], steps: [] }));
      steps.push(...result.steps);
      all.push(...result.checks);
      const failures = result.checks.filter(failed);
      const top = worst(result.checks);
      report.cases.push({ name: golden.name, ok: failures.length === 0, failures, ...(top ? { worst: top } : {}) });
    }
  } finally {
    model.dispose();
  }
  if (setting.dtype === 'bfloat16') {
    const flips = flipsOf(steps);
    all.push(...flips);
    report.failures.push(...flips.filter(failed));
  }
  const top = worst(all);
  report.ok = report.failures.length === 0 && report.cases.every((c) => c.ok);
  return { ...report, ...(top ? { worst: top } : {}) };
}

function thrown(e: unknown): Check {
  const { code, message, stack } = nativeError(e) as Error & { code?: string };
  return { what: code === undefined ? (stack ?? message) : `${code}: ${message}`, error: Infinity, bound: 0 };
}

/** Near ties may go either way; a step that was clear must not turn, and few that were fairly clear. */
function flipsOf(steps: readonly Step[]): Check[] {
  const clear = steps.filter((s) => s.margin > 0.1);
  const flipped = steps.filter((s) => s.flipped);
  return [
    {
      what: 'share of flips above a margin of 0.1',
      error: clear.filter((s) => s.flipped).length / Math.max(1, clear.length),
      bound: 0.01,
    },
    { what: 'largest margin that flipped', error: Math.max(0, ...flipped.map((s) => s.margin)), bound: 0.25 },
  ];
}
