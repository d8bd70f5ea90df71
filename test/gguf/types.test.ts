/** Every type that is read, block by block: quants and scales are written into their bits here, and read back as the values they mean. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadNative, type CheckpointHandle } from '../../dist/native';
import { tensorTypes, writeGguf, type TensorType } from './writer';

const folder = mkdtempSync(join(tmpdir(), 'ocelli-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));
const native = loadNative();

/** Numbers that float16 has: 2^e, and 1.5 times it. */
const half = (value: number): [number, number] => {
  const exponent = Math.floor(Math.log2(Math.abs(value)));
  const fraction = Math.abs(value) / 2 ** exponent === 1.5 ? 0x200 : 0;
  const bits = (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | fraction;
  return [bits & 255, bits >> 8];
};

/** Quants that use every bit: 0, 7, 14 ... modulo `count`. */
const quants = (elements: number, count: number): number[] =>
  Array.from({ length: elements }, (_, i) => (i * 7 + (i >> 5)) % count);

/** 32 nibbles: element i low in byte i, element i + 16 high. */
const nibbles = (q: number[]): number[] =>
  Array.from({ length: 16 }, (_, i) => (q[i]! & 15) | ((q[i + 16]! & 15) << 4));
/** Bit 4 of each, element i in bit i of 32. */
const fifth = (q: number[]): number[] =>
  Array.from({ length: 4 }, (_, b) => q.slice(b * 8, b * 8 + 8).reduce((a, v, i) => a | ((v >> 4) << i), 0));

const scales6 = [1, 2, 3, 33, 44, 55, 62, 63];
const minima6 = [63, 0, 17, 5, 60, 31, 16, 48];
/** Eight scales and minima of six bits in twelve bytes. */
function packSix(): number[] {
  const low = [0, 1, 2, 3];
  return [
    ...low.map((g) => scales6[g]! | ((scales6[g + 4]! >> 4) << 6)),
    ...low.map((g) => minima6[g]! | ((minima6[g + 4]! >> 4) << 6)),
    ...low.map((g) => (scales6[g + 4]! & 15) | ((minima6[g + 4]! & 15) << 4)),
  ];
}
/** Groups of 32 in pairs: the even one low, the odd one high. */
const groupNibbles = (q: number[]): number[] =>
  Array.from({ length: 128 }, (_, b) => {
    const at = Math.floor(b / 32) * 64 + (b % 32);
    return (q[at]! & 15) | ((q[at + 32]! & 15) << 4);
  });

type Block = { bytes: number[]; values: number[] };

const blocks: Record<Exclude<TensorType, 'q2_k'>, () => Block> = {
  f32: () => ({ bytes: [...new Uint8Array(Float32Array.of(-1.25).buffer)], values: [-1.25] }),
  f16: () => ({ bytes: half(-0.75), values: [-0.75] }),
  bf16: () => ({ bytes: [0x40, 0xc0], values: [-3] }),
  q4_0() {
    const q = quants(32, 16);
    return { bytes: [...half(0.25), ...nibbles(q)], values: q.map((v) => (v - 8) * 0.25) };
  },
  q4_1() {
    const q = quants(32, 16);
    return { bytes: [...half(0.25), ...half(-1.5), ...nibbles(q)], values: q.map((v) => v * 0.25 - 1.5) };
  },
  q5_0() {
    const q = quants(32, 32);
    return { bytes: [...half(-0.5), ...fifth(q), ...nibbles(q)], values: q.map((v) => (v - 16) * -0.5) };
  },
  q5_1() {
    const q = quants(32, 32);
    return { bytes: [...half(0.5), ...half(3), ...fifth(q), ...nibbles(q)], values: q.map((v) => v * 0.5 + 3) };
  },
  q8_0() {
    const q = quants(32, 256).map((v) => v - 128);
    q[0] = -128;
    q[1] = 127;
    return { bytes: [...half(0.125), ...q.map((v) => v & 255)], values: q.map((v) => v * 0.125) };
  },
  q4_k() {
    const q = quants(256, 16);
    return {
      bytes: [...half(0.5), ...half(0.25), ...packSix(), ...groupNibbles(q)],
      values: q.map((v, i) => v * 0.5 * scales6[i >> 5]! - 0.25 * minima6[i >> 5]!),
    };
  },
  q5_k() {
    const q = quants(256, 32);
    // Bit g of byte i: the fifth bit of element i of group g.
    const high = Array.from({ length: 32 }, (_, i) =>
      scales6.reduce((a, _s, g) => a | ((q[g * 32 + i]! >> 4) << g), 0),
    );
    return {
      bytes: [...half(0.5), ...half(0.25), ...packSix(), ...high, ...groupNibbles(q)],
      values: q.map((v, i) => v * 0.5 * scales6[i >> 5]! - 0.25 * minima6[i >> 5]!),
    };
  },
  q6_k() {
    const q = quants(256, 64);
    const scales = Array.from({ length: 16 }, (_, i) => (i % 2 ? -128 + i : 127 - i));
    const low = Array.from({ length: 128 }, (_, b) => {
      const at = Math.floor(b / 64) * 128 + (b % 64);
      return (q[at]! & 15) | ((q[at + 64]! & 15) << 4);
    });
    const high = Array.from({ length: 64 }, (_, b) => {
      const at = Math.floor(b / 32) * 128 + (b % 32);
      return [0, 32, 64, 96].reduce((a, step, i) => a | ((q[at + step]! >> 4) << (2 * i)), 0);
    });
    return {
      bytes: [...low, ...high, ...scales.map((s) => s & 255), ...half(0.0625)],
      values: q.map((v, i) => (v - 32) * 0.0625 * scales[i >> 4]!),
    };
  },
};

async function open(type: TensorType, rows: number, blocksPerRow: number, bytes: number[]): Promise<CheckpointHandle> {
  const width = tensorTypes[type][1] * blocksPerRow;
  const tensors = [{ name: 't', shape: [rows, width], type, data: Uint8Array.from(bytes) }];
  return native.openCheckpoint([writeGguf(join(folder, `${type}.gguf`), { tensors })]);
}

test.each(Object.keys(blocks) as (keyof typeof blocks)[])('%s', async (type) => {
  const { bytes, values: signed } = blocks[type]();
  const values = signed.map((v) => v + 0); // -0 and 0 are the same value
  expect(bytes.length).toBe(tensorTypes[type][2]);
  expect(new Set(values).size).toBeGreaterThan(type.endsWith('_k') ? 60 : values.length > 1 ? 12 : 0);
  // The block is the second of the second row: among zeros, whose values each type has at an offset of its own.
  const zero = bytes.map(() => 0);
  const handle = await open(type, 3, 2, [...zero, ...zero, ...zero, ...bytes, ...zero, ...zero]);
  expect(native.checkpointTensors(handle)).toEqual([
    { name: 't', dtype: type, shape: [3, 2 * values.length], file: 0 },
  ]);
  const blank = values.map(() => 0);
  // Every value here is a float32: no tolerance.
  expect([...native.checkpointRows(handle, 't', 1, 1)].map((v) => v + 0)).toEqual([...blank, ...values]);
  expect([...native.checkpointRows(handle, 't', 0, 3)].map((v) => v + 0)).toEqual([
    ...blank,
    ...blank,
    ...blank,
    ...values,
    ...blank,
    ...blank,
  ]);
  expect(native.checkpointRows(handle, 't', 3, 0)).toHaveLength(0);
});

test('a type that is known and not read is listed, and refused by name', async () => {
  const handle = await open('q2_k', 1, 1, new Array<number>(84).fill(0));
  expect(native.checkpointTensors(handle)).toMatchObject([{ name: 't', dtype: 'q2_k' }]);
  expect(() => native.checkpointRows(handle, 't', 0, 1)).toThrow(
    expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringContaining('q2_k') as string }),
  );
});
