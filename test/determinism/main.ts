/**
 * `npm run determinism -- [--mixes 500] [--seed 1] [--mix N] [--model NAME] [--json]`: random mixes of batches, chunks, cached prefixes and
 * pictures, preemption, threads and neighbours; every request must have the bits that it has alone. --mix replays one.
 */
import { parseArgs } from 'node:util';
import { drawMix } from './mix';
import { nothingMet, References, runMix, type Met } from './run';
import { subjects } from './subjects';

const { values } = parseArgs({
  options: {
    mixes: { type: 'string', default: '500' },
    seed: { type: 'string', default: '1' },
    mix: { type: 'string' },
    model: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});

const note = (text: string): void => void process.stderr.write(`${text}\n`);
const print = (text: string): void => void process.stdout.write(`${text}\n`);

/** From this many mixes on each of what they are for has to have come up. */
const enough = 30;

async function main(): Promise<void> {
  const { subjects: all, unknown } = await subjects();
  const chosen = all.filter(({ name }) => values.model === undefined || name === values.model);
  if (chosen.length === 0) throw new Error(`Expected one of ${all.map((s) => s.name).join(', ')} for --model`);
  if (unknown.length > 0) note(`models that the library does not have: ${unknown.join(', ')}`);
  const seed = Number(values.seed);
  const numbers =
    values.mix === undefined ? Array.from({ length: Number(values.mixes) }, (_, i) => i) : [Number(values.mix)];
  const references = new References();
  const total = nothingMet();
  const differing: { mix: number; model: string; options: unknown; differences: string[] }[] = [];
  const started = performance.now();
  for (const number of numbers) {
    const mix = drawMix(seed, number, chosen);
    const { differences, options, met } = await runMix(mix, references);
    for (const key of Object.keys(total) as (keyof Met)[]) total[key] += met[key];
    if (differences.length === 0) continue;
    const model = mix.subject.name;
    differing.push({ mix: number, model, options, differences });
    const replay = `npm run determinism -- --seed ${seed} --mix ${number}${values.model ? ` --model ${values.model}` : ''}`;
    note(`mix ${number} on ${model} differs in ${differences.length}; ${replay}\n  ${JSON.stringify(options)}`);
    for (const line of differences.slice(0, 5)) note(`  ${line}`);
  }
  await references.dispose();
  const missing =
    numbers.length < enough || values.model !== undefined
      ? []
      : Object.entries(total).filter(([, count]) => count === 0);
  const seconds = Math.round((performance.now() - started) / 100) / 10;
  const models = chosen.map((s) => s.name);
  if (values.json) print(JSON.stringify({ mixes: numbers.length, seed, models, seconds, met: total, differing }));
  else {
    print(
      `${numbers.length} mixes of seed ${seed} on ${models.join(', ')} in ${seconds} s: ${differing.length} differ`,
    );
    print(
      Object.entries(total)
        .map(([what, count]) => `${what} ${count}`)
        .join(', '),
    );
  }
  for (const [what] of missing) note(`Expected the mixes to meet ${what} but they met none`);
  process.exitCode = differing.length > 0 || missing.length > 0 ? 1 : 0;
}

main().catch((e: unknown) => {
  note((e as Error).stack ?? String(e));
  process.exitCode = 1;
});
