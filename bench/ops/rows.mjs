// Ops that read and write rows, by bytes moved: at 512 x 2048 they stay in the last cache, so the roof of reads is no bound.
import { filled, line, time } from './op.mjs';

const [rowCount, width] = [512, 2048];
const x = filled([rowCount, width]);
const bytes = rowCount * width * 4;

const ops = {
  rms_norm: [[x, filled([width])], [rowCount, width], { eps: 1e-5 }, 2],
  layer_norm: [[x, filled([width]), filled([width])], [rowCount, width], { eps: 1e-5 }, 2],
  'act gelu': [[x], [rowCount, width], { kind: 'gelu' }, 2],
  'act silu': [[x], [rowCount, width], { kind: 'silu' }, 2],
  'gated_act silu': [[x], [rowCount, width / 2], { kind: 'silu' }, 1.5],
  add: [[x, x], [rowCount, width], {}, 3],
  rope: [
    [
      { ...x, shape: [rowCount, width / 64, 64] },
      { dtype: 'i32', shape: [rowCount], data: Int32Array.from({ length: rowCount }, (_, i) => i) },
      filled([32]),
    ],
    [rowCount, width / 64, 64],
    { rotary: 64, style: 'half' },
    2,
  ],
};

export const rows = {
  rows: (backend, threads, roof) =>
    Object.entries(ops).map(([name, [inputs, shape, attrs, passes]]) => {
      const seconds = time(backend, name.split(' ')[0], inputs, [{ dtype: 'f32', shape }], attrs, { threads });
      return line(`${name} ${rowCount} x ${width}`, seconds, { bytes: bytes * passes }, roof);
    }),
};
