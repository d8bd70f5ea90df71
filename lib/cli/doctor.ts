/** `ocelli doctor`: does it work here, with what, and what would a build need. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { chooseDevice } from '../engine/device';
import { LLM } from '../index';
import { loadNative, nativeError, type NativeInfo } from '../native';
import { buildTools, packageRoot, type BuildTool } from './build-tools';
import { errorLine, Failed } from './outcome';
import { bytes, print, printJson, seconds, StatusLine, table } from './terminal';

interface Report {
  ok: boolean;
  version: string;
  node: string;
  platform: string;
  native: { loaded: true; info: NativeInfo; forcedIsa: string | null } | { loaded: false; error: string };
  /** What device 'auto' finds, and why. */
  cuda: { available: boolean; reason: string };
  selfTest: { ok: boolean; message: string; loadMs?: number; answerMs?: number };
  build: { ready: boolean; tools: BuildTool[] };
}

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('says what this machine offers, tests one answer, and lists what a build needs')
    .option('--json', 'print the report as JSON')
    .action(async ({ json }: { json?: boolean }) => {
      const report = await examine();
      if (json) printJson(report);
      else print(reportText(report));
      if (!report.ok) throw new Failed();
    });
}

async function examine(): Promise<Report> {
  const { version } = JSON.parse(await readFile(join(packageRoot, 'package.json'), 'utf8')) as { version: string };
  let native: Report['native'];
  try {
    native = { loaded: true, info: loadNative().info(), forcedIsa: process.env.OCELLI_ISA ?? null };
  } catch (e) {
    native = { loaded: false, error: errorLine(nativeError(e)) };
  }
  const selfTest = native.loaded ? await askDemo() : { ok: false, message: 'not run: no native binary' };
  const tools = buildTools();
  return {
    ok: native.loaded && selfTest.ok,
    version,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    native,
    cuda: await examineCuda(native.loaded),
    selfTest,
    build: { ready: tools.every((tool) => tool.found !== undefined), tools },
  };
}

async function examineCuda(loaded: boolean): Promise<Report['cuda']> {
  if (!loaded) return { available: false, reason: 'not asked: no native binary' };
  const { gpu, reason } = await chooseDevice(loadNative());
  if (!gpu) return { available: false, reason: `${reason}; device auto means cpu` };
  return { available: true, reason: `${gpu.name}, ${bytes(gpu.freeBytes)} free` };
}

/** Loads the model of the package and asks one question whose answer is known. */
async function askDemo(): Promise<Report['selfTest']> {
  const status = new StatusLine();
  const started = performance.now();
  try {
    status.show('self-test: loading the demo model');
    await using llm = await LLM.load('demo', { maxNumSeqs: 1 });
    const loadMs = Math.round(performance.now() - started);
    status.show('self-test: asking it');
    const image = join(packageRoot, 'models', 'demo', 'samples', 'three-circles.png');
    const prompt = 'USER: <image>\nHow many objects are there? ASSISTANT:';
    const result = await llm.generate({ prompt, multiModalData: { image } }, { temperature: 0, maxTokens: 8 });
    const text = result.outputs[0]?.text.trim();
    const answerMs = Math.round(performance.now() - started - loadMs);
    const ok = text === 'Four.';
    const message = ok
      ? 'the demo model counts four objects'
      : `Expected 'Four.' from the demo model but received '${text}'`;
    return { ok, message, loadMs, answerMs };
  } catch (e) {
    return { ok: false, message: errorLine(e) };
  } finally {
    status.clear();
  }
}

function reportText(report: Report): string {
  const { native, selfTest, build } = report;
  let text = `ocelli ${report.version} on Node ${report.node}, ${report.platform}\n\n`;
  if (native.loaded) {
    const { info, forcedIsa } = native;
    const withheld =
      info.features.includes('amx-tile') && !info.isas.includes('amx') ? '; Linux granted no AMX tiles' : '';
    const isa = `${info.isa}${forcedIsa ? ' (forced by OCELLI_ISA)' : ''}; this processor runs ${info.isas.join(', ') || 'the reference only'}${withheld}`;
    const { total, limit, available } = info.memory;
    const grant = limit < total ? `, ${bytes(limit)} granted by the cgroup` : '';
    text += table([
      ['native binary', `version ${info.version}`],
      ['processor', info.cpu],
      ['features', info.features.join(' ')],
      ['instruction set', isa],
      ['cores', `${info.cores} for this process (affinity and cgroup)`],
      ['memory', `${bytes(available)} available of ${bytes(total)}${grant}`],
      ['CUDA', report.cuda.reason],
    ]);
  } else text += `  ${native.error}\n`;
  const timing =
    selfTest.loadMs === undefined
      ? ''
      : ` (loaded in ${seconds(selfTest.loadMs)}, answered in ${seconds(selfTest.answerMs ?? 0)})`;
  text += `\nSelf-test: ${selfTest.ok ? 'passed' : 'FAILED'}: ${selfTest.message}${timing}\n`;
  text += `\nA build (ocelli build) ${build.ready ? 'has what it needs' : 'would need what is missing here'}:\n`;
  text += table(build.tools.map(({ name, found, remedy }) => [name, found ?? `missing; ${remedy}`]));
  return `${text}\n${report.ok ? 'Everything works.' : 'Not everything works; see above.'}\n`;
}
