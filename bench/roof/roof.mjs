// Builds roof.cc for this machine and runs it: { threads, f32, bf16?, int8?, tiles?: { bf16, int8 } } in operations a second and `read` in
// bytes a second. Without a suffix they are those of vectors; `tiles` are AMX's.
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const out = join(here, '../../out/bench');
const program = join(out, 'roof');

function run(file, args) {
  const result = spawnSync(file, args, { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`${file} ${args.join(' ')} failed: ${result.stderr}`);
  return result.stdout;
}

let built = false;

export function measureRoof(threads) {
  if (!built) {
    mkdirSync(out, { recursive: true });
    run(process.env.CXX ?? 'c++', ['-O3', '-march=native', '-pthread', join(here, 'roof.cc'), '-o', program]);
    built = true;
  }
  return JSON.parse(run(program, [String(threads)]));
}

/** Operations a second that an instruction set could do at most with operands of `kind` (f32, bf16, int8). */
export function most(roof, kind, isa) {
  return (isa === 'amx' ? roof.tiles?.[kind] : undefined) ?? roof[kind] ?? roof.f32;
}
