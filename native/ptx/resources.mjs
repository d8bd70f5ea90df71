// What ptxas makes of each kernel on each architecture that ships: registers, shared memory, spills, stack, and the occupancy that
// follows. Compared with native/cuda/resources.json, which `npm run test:cuda -- --update` writes anew.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** One virtual architecture, and machine code made from its PTX for each GPU: what the emulator ran is what ships. */
export const architectures = [80, 86, 89, 90, 100, 120];
const gencode = `arch=compute_80,code=[${architectures.map((a) => `sm_${a}`).join(',')},compute_80]`;

function run(file, parameters, cwd) {
  return new Promise((resolve) => {
    let output = '';
    const child = spawn(file, parameters, { cwd });
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
    child.on('close', (code) => resolve({ code, output }));
  });
}

/** ptxas -v: "Compiling entry function 'x' for 'sm_80'", then stack and spills, then "Used 40 registers, ... 512 bytes smem". */
function parse(module, output) {
  const found = {};
  const pattern =
    /Compiling entry function '(\w+)' for 'sm_(\d+)\w?'[\s\S]*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads[\s\S]*?Used (\d+) registers([^\n]*)/g;
  for (const [, kernel, arch, stack, stores, loads, registers, rest] of output.matchAll(pattern)) {
    const shared = Number(/(\d+) bytes smem/.exec(rest)?.[1] ?? 0);
    const entry = (found[`${module}/${kernel}`] ??= {});
    entry[`sm_${arch}`] = {
      registers: Number(registers),
      shared,
      spills: Number(stores) + Number(loads),
      stack: Number(stack),
    };
  }
  return found;
}

/** Compiles every kernel and returns what differs from the pinned table, as lines. */
export async function checkResources({ root, out, nvcc, version, update }) {
  const folder = join(root, 'native/cuda');
  const sources = readdirSync(folder).filter((f) => f.endsWith('.cu'));
  const shared = readdirSync(folder)
    .filter((f) => /\.(cuh|h)$/.test(f))
    .map((f) => readFileSync(join(folder, f), 'utf8'))
    .join('\0');
  mkdirSync(join(out, 'fatbin'), { recursive: true });
  const measured = {};
  const problems = [];
  const queue = [...sources];
  const worker = async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      const module = file.slice(0, -3);
      const fatbin = join(out, 'fatbin', `${module}.fatbin`);
      const parameters = [
        '-gencode',
        gencode,
        '-std=c++17',
        '-O3',
        '-Inative',
        '-Xptxas',
        '-v',
        '-fatbin',
        '-o',
        fatbin,
      ];
      parameters.push(join('native/cuda', file));
      const text = readFileSync(join(folder, file), 'utf8');
      const stamp = createHash('sha256')
        .update([version, shared, text, parameters.join(' ')].join('\0'))
        .digest('hex');
      const cache = `${fatbin}.json`;
      let known = existsSync(cache) ? JSON.parse(readFileSync(cache, 'utf8')) : {};
      if (known.stamp !== stamp) {
        const { code, output } = await run(nvcc, parameters, root);
        if (code !== 0) {
          problems.push(`${file} does not compile for ${gencode}\n${output}`);
          continue;
        }
        known = { stamp, kernels: parse(module, output) };
        writeFileSync(cache, JSON.stringify(known));
      }
      Object.assign(measured, known.kernels);
    }
  };
  await Promise.all([worker(), worker()]);

  const release = /release ([\d.]+)/.exec(version)?.[1] ?? 'unknown';
  const pinnedFile = join(folder, 'resources.json');
  const names = Object.keys(measured).sort();
  let checks = 0;
  for (const name of names) {
    for (const arch of architectures) {
      const row = measured[name][`sm_${arch}`];
      checks++;
      if (!row) problems.push(`${name}: no machine code for sm_${arch}`);
      else if (row.spills > 0 || row.stack > 0)
        problems.push(`${name} on sm_${arch}: ${row.spills} bytes spilled, ${row.stack} bytes of stack`);
    }
  }
  if (update) {
    const rows = names.map((name) => {
      const cells = architectures.map((a) => {
        const row = measured[name][`sm_${a}`];
        return `"sm_${a}": [${row.registers}, ${row.shared}]`;
      });
      return `    "${name}": { ${cells.join(', ')} }`;
    });
    writeFileSync(
      pinnedFile,
      `{\n  "nvcc": "${release}",\n  "columns": "registers a thread, bytes of static shared memory",\n  "kernels": {\n${rows.join(',\n')}\n  }\n}\n`,
    );
  }
  const pinned = JSON.parse(readFileSync(pinnedFile, 'utf8'));
  // Another compiler may spend registers otherwise: then only spills and stack count.
  if (pinned.nvcc === release) {
    for (const name of new Set([...names, ...Object.keys(pinned.kernels)])) {
      for (const arch of architectures) {
        const row = measured[name]?.[`sm_${arch}`];
        const wanted = pinned.kernels[name]?.[`sm_${arch}`];
        checks++;
        if (row?.registers !== wanted?.[0] || row?.shared !== wanted?.[1])
          problems.push(
            `${name} on sm_${arch}: ${row?.registers} registers and ${row?.shared} bytes, pinned ${wanted}`,
          );
      }
    }
  }
  return { kernels: names.length, instances: names.length * architectures.length, checks, problems };
}
