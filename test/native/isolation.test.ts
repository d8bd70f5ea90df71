/**
 * Code compiled for one instruction set must never run in another's place. The linker keeps one copy of each inline function that several
 * objects define, whichever comes first: so the objects of the kernels may define nothing shared, only names of their own namespace.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const folder = join(__dirname, '../../native/CMakeFiles');
const isas = readdirSync(folder)
  .map((name) => /^ocelli_cpu_(\w+)\.dir$/.exec(name)?.[1])
  .filter((isa) => isa !== undefined);

test('kernels are built for several instruction sets', () => {
  expect(isas.length).toBeGreaterThan(process.arch === 'x64' ? 2 : 0);
});

test.each(isas)('the objects of %s define no shared symbol', (isa) => {
  const objects = join(folder, `ocelli_cpu_${isa}.dir/native/cpu`);
  expect(existsSync(objects)).toBe(true);
  for (const object of readdirSync(objects, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.o'),
  )) {
    const symbols = execFileSync('nm', ['-C', '--defined-only', join(objects, object)], { encoding: 'utf8' });
    // W, V, u: weak functions, weak objects, unique globals. What follows belongs to the namespace through its arguments.
    const shared = symbols
      .split('\n')
      .filter((line) => / [WVu] /.test(line) && !line.includes(`ocelli::cpu::${isa}::`))
      .filter((line) => !line.endsWith('DW.ref.__gxx_personality_v0'));
    expect({ object, shared }).toEqual({ object, shared: [] });
  }
});
