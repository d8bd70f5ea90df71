// linear by rows of activations: prefill against the roof of multiply-adds, decode against the roof of reads.
import { most } from '../roof/roof.mjs';
import { filled, line, time } from './op.mjs';

const shapes = [
  ['qkv', 2560, 2048],
  ['o', 2048, 2048],
  ['gate+up', 11264, 2048],
  ['down', 2048, 5632],
];

/** Of a weight, scales counted. */
const bits = { f32: 32, bf16: 16, f16: 16, i8: 8.5, i8_rows: 8, i8_exact: 8.5, i4: 5, i4_rows: 5, i4_exact: 5 };

/** The shapes of TinyLlama 1.1B at `rows` rows. */
function prefill(format) {
  return (backend, threads, roof) =>
    shapes.map(([name, n, k]) => {
      const rows = 512;
      const seconds = time(
        backend,
        'linear',
        [filled([rows, k]), filled([n, k], 'bf16'), null],
        [{ dtype: 'f32', shape: [rows, n] }],
        {},
        { packed: format, threads },
      );
      const kind = bits[format] < 16 ? 'int8' : format === 'bf16' ? 'bf16' : 'f32';
      const operations = [2 * rows * n * k, most(roof, kind, backend)];
      return line(`${format} ${rows} x ${name} [${n}, ${k}]`, seconds, { operations }, roof);
    });
}

/** A matrix larger than the caches, a few rows. */
function decode(format) {
  return (backend, threads, roof) => {
    const [n, k] = [40960, 2048];
    const w = filled([n, k], 'bf16');
    return [1, 2, 3, 4, 6, 8, 12, 16].map((rows) => {
      const seconds = time(
        backend,
        'linear',
        [filled([rows, k]), w, null],
        [{ dtype: 'f32', shape: [rows, n] }],
        {},
        { packed: format, threads },
        9,
      );
      const bytes = (n * k * bits[format]) / 8;
      return line(`${format} ${rows} x [${n}, ${k}]`, seconds, { bytes }, roof);
    });
  };
}

export const rows = Object.fromEntries(
  Object.keys(bits).flatMap((format) => [
    [`linear-prefill-${format}`, prefill(format)],
    [`linear-decode-${format}`, decode(format)],
  ]),
);
