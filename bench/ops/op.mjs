// What rows of bench/ops share: operands, timing one op on one backend, and the share of the roof.
import { createRequire } from 'node:module';

const { loadNative } = createRequire(import.meta.url)('../../dist/native.js');
export const native = loadNative();

export const median = (times) => Float64Array.from(times).sort()[times.length >> 1];

/** Numbers of moderate size; a short pattern repeated, since no kernel's speed depends on them. */
export function filled(shape, dtype = 'f32') {
  const count = shape.reduce((a, b) => a * b, 1);
  if (dtype === 'f32') {
    const data = new Float32Array(count);
    for (let i = 0; i < count; i++) data[i] = ((i * 2654435761) % 1021) / 1021 - 0.5;
    return { dtype, shape, data };
  }
  const data = new Uint16Array(count);
  // 0.25 to 0.5 of either sign, in bf16 (0x3e80 + 7 bits of fraction) or f16.
  for (let i = 0; i < count; i++) data[i] = (i & 1 ? 0x8000 : 0) | (0x3e80 + ((i * 40503) & 127));
  return { dtype, shape, data };
}

/** Seconds of each run, after two that warm up. */
export function time(backend, op, inputs, outShapes, attrs, options, runs = 15) {
  const seconds = new Float64Array(runs + 2);
  native.runOp(backend, op, inputs, outShapes, attrs, { ...options, seconds });
  return seconds.slice(2);
}

/**
 * A line of the table: what was done, in how long (median and fastest run), and how much of the roof the fastest run reached: the roof is
 * the fastest of several runs too, which is what two processes on one machine can be compared by.
 */
export function line(name, seconds, { operations, bytes }, roof) {
  const best = Math.min(...seconds);
  const ms = (s) => (s * 1e3).toFixed(s < 1e-3 ? 3 : 2);
  const cells = { name, ms: ms(median(seconds)), best: ms(best) };
  if (operations) {
    const [count, most] = operations;
    cells['GFLOP/s'] = (count / best / 1e9).toFixed(0);
    cells['of roof'] = `${((100 * count) / best / most).toFixed(0)}%`;
  }
  if (bytes) {
    cells['GB/s'] = (bytes / best / 1e9).toFixed(1);
    cells['of reads'] = `${((100 * bytes) / best / roof.read).toFixed(0)}%`;
  }
  return cells;
}
