// What rows measured, kept in out/bench/results, and the table that is made of it.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const folder = join(here, '../out/bench/results');
const begin = '<!-- table: npm run bench -- --table -->';
const end = '<!-- end of table -->';

const fileOf = (name) => join(folder, `${name.replaceAll('/', '--')}.json`);

const read = (name) => (existsSync(fileOf(name)) ? JSON.parse(readFileSync(fileOf(name), 'utf8')) : undefined);

/** The kept result of a row, where it was repeated as often as asked: the row's own number of times, or at least `repeat`. */
export function kept(name, repeat) {
  const result = read(name);
  return (result?.repeat ?? Infinity) >= (repeat ?? Infinity) ? result : undefined;
}

export function keep(result) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(fileOf(result.name), `${JSON.stringify(result, null, 2)}\n`);
}

const text = (value) => (typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value ?? ''));
const cell = (value) => text(value).replaceAll('|', '\\|').replaceAll('\n', ' ');
const range = ([low, high]) => `${text(low)} to ${text(high)}`;
const spread = (value) => (Array.isArray(value) ? range(value) : text(value));

/** A line per condition: a row's goals stand one below the other. */
function lines(name, result) {
  const command = `\`npm run bench -- --row ${name}\``;
  if (!result) return [`| ${command} | | | | not yet |`];
  const conditions = result.conditions ?? [
    { what: result.unit, goal: result.goal, median: result.value, spread: result.spread, pass: result.pass },
  ];
  return conditions.map(({ what, goal, median, spread: range, why, pass }, i) => {
    const measured = why ?? (range === undefined ? text(median) : `${text(median)} (${spread(range)})`);
    return `| ${i === 0 ? command : ''} | ${cell(what)} | ${cell(goal)} | ${cell(measured)} | ${pass ? 'yes' : 'no'} |`;
  });
}

/** Writes bench/table.json, and the table between its markers in bench/README.md. @param names of all rows, in order */
export function writeTable(names) {
  const results = Object.fromEntries(names.map((name) => [name, read(name)]));
  const table = [
    '| Command | What | Goal | Median (spread) | Held |',
    '|-|-|-|-|-|',
    ...names.flatMap((name) => lines(name, results[name])),
  ].join('\n');
  const page = join(here, 'README.md');
  const readme = readFileSync(page, 'utf8');
  const [from, to] = [readme.indexOf(begin), readme.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`Expected ${begin} and ${end} in bench/README.md`);
  writeFileSync(page, `${readme.slice(0, from + begin.length)}\n\n${table}\n\n${readme.slice(to)}`);
  const measured = Object.values(results).filter(Boolean);
  writeFileSync(join(here, 'table.json'), `${JSON.stringify(measured, null, 2)}\n`);
  return table;
}
