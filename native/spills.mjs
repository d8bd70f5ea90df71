// `npm run spills`: disassembles the micro-kernels as they were built and fails where an inner loop touches the stack with a vector. gcc 12 is
// known to keep accumulators there around some intrinsics, at half the speed; nothing but the disassembly shows it.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../out/native/CMakeFiles', import.meta.url));
const kernels = ['linear', 'linear_quantized', 'attention'];
// Two multiply-adds or more make a loop an inner loop of a micro-kernel.
const multiplies = /^v?(fmadd\w+ps|mulps|dpbf16ps|pdpbusd|fmla)\b|^tdp/;

/** [function, [address, instruction][]] of an object file. */
function disassemble(object) {
  const { stdout, status } = spawnSync('objdump', ['-d', '--no-show-raw-insn', '-C', object], {
    encoding: 'utf8',
    maxBuffer: 1 << 30,
  });
  if (status !== 0) throw new Error(`Expected objdump to read ${object}`);
  const functions = [];
  for (const line of stdout.split('\n')) {
    const title = /^[0-9a-f]+ <(.*)>:$/.exec(line);
    if (title) functions.push([title[1], []]);
    const instruction = /^\s*([0-9a-f]+):\s+(.*)$/.exec(line);
    if (instruction) functions.at(-1)[1].push([parseInt(instruction[1], 16), instruction[2]]);
  }
  return functions;
}

/** The bodies of loops that hold no other loop. */
function innerLoops(instructions) {
  const index = new Map(instructions.map(([address], i) => [address, i]));
  const loops = instructions.flatMap(([, text], i) => {
    const begin = index.get(parseInt(/^j\w+\s+([0-9a-f]+)\b/.exec(text)?.[1] ?? '', 16));
    return begin !== undefined && begin < i ? [[begin, i]] : [];
  });
  return loops
    .filter(([begin, end]) => !loops.some(([b, e]) => b >= begin && e <= end && (b !== begin || e !== end)))
    .map(([begin, end]) => instructions.slice(begin, end + 1).map(([, text]) => text));
}

let checked = 0;
let spilled = 0;
for (const isa of ['amx', 'avx512', 'avx2', 'baseline']) {
  for (const kernel of kernels) {
    // Widening float16 scales without F16C takes more constants than there are registers, once a block.
    if (kernel === 'linear_quantized' && isa === 'baseline') continue;
    const objects = [kernel, `amx/${kernel}`]
      .map((source) => join(folder, `ocelli_cpu_${isa}.dir/native/cpu/${source}.cc.o`))
      .filter(existsSync);
    for (const [name, instructions] of objects.flatMap(disassemble)) {
      if (!/\bmultiply_(tile|one|two|panel)\b/.test(name)) continue;
      for (const body of innerLoops(instructions)) {
        if (body.filter((text) => multiplies.test(text)).length < 2) continue;
        checked++;
        const stack = body.filter((text) => /%[xyz]mm/.test(text) && /\(%r[sb]p/.test(text));
        if (stack.length === 0) continue;
        spilled++;
        console.log(`${isa} ${kernel}: ${name.replaceAll(/ocelli::cpu::\w+::/g, '')}\n  ${stack.join('\n  ')}`);
      }
    }
  }
}
const built = existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith('ocelli_cpu_')).length : 0;
console.log(`${checked} inner loops of ${built} instruction sets, ${spilled} with vectors on the stack`);
process.exitCode = checked === 0 || spilled > 0 ? 1 : 0;
