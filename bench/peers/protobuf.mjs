// As much of the protobuf wire format as an ONNX file takes. A message is a list of buffers, so that large ones are never copied.
import { closeSync, openSync, writeSync } from 'node:fs';

function varint(value) {
  const out = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    const low = Number(rest & 127n);
    if (rest < 128n) return Buffer.from([...out, low]);
    out.push(low | 128);
  }
}

export const integer = (field, value) => [varint(field << 3), varint(value)];

export function float(field, value) {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return [varint((field << 3) | 5), bytes];
}

export function message(field, parts) {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return [varint((field << 3) | 2), varint(length), ...parts];
}

export const text = (field, value) => message(field, [Buffer.from(value)]);

export function writeParts(path, parts) {
  const file = openSync(path, 'w');
  for (let at = 0; at < parts.length;) {
    const from = at;
    for (let size = 0; at < parts.length && size < 2 ** 20; at++) size += parts[at].length;
    const joined = at - from === 1 ? parts[from] : Buffer.concat(parts.slice(from, at));
    for (let done = 0; done < joined.length;) done += writeSync(file, joined, done);
  }
  closeSync(file);
}
