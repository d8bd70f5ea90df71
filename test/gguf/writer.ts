/** Writes GGUF files: the header field by field, so that tests can also write what no honest program would. */
import { writeFileSync } from 'node:fs';

export const valueTypes = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  str: 8,
  arr: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;
export type ValueType = Exclude<keyof typeof valueTypes, 'arr'>;
type Scalar = number | bigint | string | boolean;
/** [key, type, value]; a list is an array of that type. */
export type Entry = readonly [key: string, type: ValueType, value: Scalar | readonly Scalar[]];

/** [elements, bytes] of a block. */
export const tensorTypes = {
  f32: [0, 1, 4],
  f16: [1, 1, 2],
  q4_0: [2, 32, 18],
  q4_1: [3, 32, 20],
  q5_0: [6, 32, 22],
  q5_1: [7, 32, 24],
  q8_0: [8, 32, 34],
  q2_k: [10, 256, 84],
  q4_k: [12, 256, 144],
  q5_k: [13, 256, 176],
  q6_k: [14, 256, 210],
  bf16: [30, 1, 2],
} as const;
export type TensorType = keyof typeof tensorTypes;

export interface TensorSpec {
  name: string;
  /** Slowest dimension first; the file has them the other way round. */
  shape: readonly number[];
  type: TensorType | number;
  data: Uint8Array;
  /** In place of where it is. */
  offset?: bigint;
}

export interface GgufSpec {
  magic?: string;
  version?: number;
  alignment?: number;
  counts?: { tensors?: bigint; values?: bigint };
  metadata?: readonly Entry[];
  /** Bytes in place of `metadata`, behind their count. */
  rawMetadata?: readonly Uint8Array[];
  tensors?: readonly TensorSpec[];
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([u64(bytes.length), bytes]);
}

function scalar(type: ValueType, value: Scalar): Buffer {
  const bytes = Buffer.alloc(8);
  switch (type) {
    case 'str':
      return text(String(value));
    case 'bool':
      return Buffer.from([value ? 1 : 0]);
    case 'u8':
      return bytes.subarray(0, bytes.writeUInt8(Number(value)));
    case 'i8':
      return bytes.subarray(0, bytes.writeInt8(Number(value)));
    case 'u16':
      return bytes.subarray(0, bytes.writeUInt16LE(Number(value)));
    case 'i16':
      return bytes.subarray(0, bytes.writeInt16LE(Number(value)));
    case 'u32':
      return bytes.subarray(0, bytes.writeUInt32LE(Number(value)));
    case 'i32':
      return bytes.subarray(0, bytes.writeInt32LE(Number(value)));
    case 'f32':
      return bytes.subarray(0, bytes.writeFloatLE(Number(value)));
    case 'f64':
      return bytes.subarray(0, bytes.writeDoubleLE(Number(value)));
    case 'u64':
      return bytes.subarray(0, bytes.writeBigUInt64LE(BigInt(value as number)));
    case 'i64':
      return bytes.subarray(0, bytes.writeBigInt64LE(BigInt(value as number)));
  }
}

export function entry([key, type, value]: Entry): Buffer {
  const head = [text(key)];
  const list = value as readonly Scalar[];
  if (!Array.isArray(value)) return Buffer.concat([...head, u32(valueTypes[type]), scalar(type, value as Scalar)]);
  head.push(u32(valueTypes.arr), u32(valueTypes[type]), u64(list.length));
  return Buffer.concat([...head, ...list.map((v) => scalar(type, v))]);
}

export function ggufBytes(spec: GgufSpec): Buffer {
  const { magic = 'GGUF', version = 3, alignment = 32, counts = {}, metadata = [], tensors = [] } = spec;
  const values = spec.rawMetadata ?? metadata.map(entry);
  const pad = (n: number): number => Math.ceil(n / alignment) * alignment;
  let at = 0;
  const infos: Buffer[] = [];
  const data: Buffer[] = [];
  for (const { name, shape, type, data: bytes, offset } of tensors) {
    infos.push(text(name), u32(shape.length), ...[...shape].reverse().map(u64));
    infos.push(u32(typeof type === 'number' ? type : tensorTypes[type][0]), u64(offset ?? at));
    const padded = Buffer.alloc(pad(bytes.length));
    padded.set(bytes);
    data.push(padded);
    at += padded.length;
  }
  const header = Buffer.concat([
    Buffer.from(magic, 'latin1'),
    u32(version),
    u64(counts.tensors ?? tensors.length),
    u64(counts.values ?? values.length),
    ...values,
    ...infos,
  ]);
  return Buffer.concat([header, Buffer.alloc(pad(header.length) - header.length), ...data]);
}

export function writeGguf(path: string, spec: GgufSpec): string {
  writeFileSync(path, ggufBytes(spec));
  return path;
}
