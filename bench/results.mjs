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

/** The kept result of a row, where it was repeated as often as asked: `repeat` times at least, or without it the row's own number of times. */
export function kept(name, repeat) {
  const result = read(name);
  const often = repeat === undefined ? result?.repeat === undefined : result?.repeat >= repeat;
  return often ? result : undefined;
}

export function keep(result) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(fileOf(result.name), `${JSON.stringify(result, null, 2)}\n`);
}

const text = (value) => (typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value ?? ''));
const cell = (value) => text(value).replaceAll('|', '\\|').replaceAll('\n', ' ');
const range = ([low, high]) => `${text(low)} to ${text(high)}`;
const spread = (value) => (Array.isArray(value) ? range(value) : text(value));

/** Where a row was measured: rows of one table may come from several machines, and ratios differ between them. */
function machine({ cpu, isa, measured }) {
  const name = cpu
    .replace(/\(R\)|Processor/g, '')
    .replace(/\s+/g, ' ')
    .trim();
  return [isa === undefined ? name : `${name} (${isa})`, measured.slice(0, 10)].join(', ');
}

/** A line per condition: a row's goals stand one below the other. */
function lines(name, result) {
  const command = `\`npm run bench -- --row ${name}\``;
  if (!result) return [`| ${command} | | | | not yet | |`];
  const conditions = result.conditions ?? [
    { what: result.unit, goal: result.goal, median: result.value, spread: result.spread, pass: result.pass },
  ];
  return conditions.map(({ what, goal, median, spread: range, why, pass }, i) => {
    const measured = why ?? (range === undefined ? text(median) : `${text(median)} (${spread(range)})`);
    return `| ${i === 0 ? command : ''} | ${cell(what)} | ${cell(goal)} | ${cell(measured)} | ${pass ? 'yes' : 'no'} | ${i === 0 ? machine(result) : ''} |`;
  });
}

const tableOf = (names, results) =>
  ['| Command | What | Goal | Median (spread) | Held | Measured on |', '|-|-|-|-|-|-|']
    .concat(names.flatMap((name) => lines(name, results[name])))
    .join('\n');

function putBetweenMarkers(page, table) {
  const content = readFileSync(page, 'utf8');
  const [from, to] = [content.indexOf(begin), content.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`Expected ${begin} and ${end} in ${page}`);
  writeFileSync(page, `${content.slice(0, from + begin.length)}\n\n${table}\n\n${content.slice(to)}`);
}

/**
 * Writes bench/table.json, all rows to bench/README.md and those of them that were measured to README.md. A row that was not measured
 * here keeps what the table has.
 * @param names of all rows, in order
 * @param forReaders names of those that README.md carries
 */
export function writeTable(names, forReaders) {
  const stored = join(here, 'table.json');
  const before = existsSync(stored) ? JSON.parse(readFileSync(stored, 'utf8')) : [];
  const known = Object.fromEntries(before.map((result) => [result.name, result]));
  const results = Object.fromEntries(names.map((name) => [name, read(name) ?? known[name]]));
  const measured = Object.values(results).filter(Boolean);
  writeFileSync(stored, `${JSON.stringify(measured, null, 2)}\n`);
  const table = tableOf(names, results);
  putBetweenMarkers(join(here, 'README.md'), table);
  const shown = forReaders.filter((name) => results[name]);
  putBetweenMarkers(join(here, '../README.md'), shown.length > 0 ? tableOf(shown, results) : 'Not measured yet.');
  return table;
}
