/** The lossless codes of TIFF strips and tiles. */
import { constants, inflateSync } from 'node:zlib';
import { corrupt, truncated } from './bytes';

/** Codes that are read, and how far each can inflate: 1 none, 5 LZW, 8 and 32946 deflate, 32773 PackBits. */
export const maxExpansion: Readonly<Record<number, number>> = { 1: 1, 5: 2731, 8: 1032, 32946: 1032, 32773: 64 };

/** LZW as TIFF writes it: most significant bit first, codes widen one early. */
function lzw(code: Uint8Array, expected: number): Uint8Array {
  const out = new Uint8Array(expected);
  const start = new Int32Array(4096);
  const length = new Int32Array(4096);
  let next = 258;
  let width = 9;
  let previous = -1;
  let previousLength = 0;
  let written = 0;
  let bits = 0;
  let held = 0;
  let at = 0;
  while (written < expected) {
    while (held < width) {
      if (at >= code.length) throw truncated('TIFF');
      bits = ((bits << 8) | code[at++]!) & 0xffffff;
      held += 8;
    }
    const symbol = (bits >>> (held - width)) & ((1 << width) - 1);
    held -= width;
    if (symbol === 256) {
      next = 258;
      width = 9;
      previous = -1;
      continue;
    }
    if (symbol === 257) throw truncated('TIFF');
    const begin = written;
    if (symbol < 256) {
      out[written++] = symbol;
    } else {
      const known = symbol < next;
      if (!known && (symbol !== next || previous < 0)) throw corrupt('TIFF', 'an impossible LZW code');
      const from = known ? start[symbol]! : previous;
      const size = Math.min(known ? length[symbol]! : previousLength + 1, expected - written);
      for (let i = 0; i < size; i++) out[written++] = out[from + i]!;
    }
    if (previous >= 0 && next < 4096) {
      start[next] = previous;
      length[next] = previousLength + 1;
      next++;
      if (next >= (1 << width) - 1 && width < 12) width++;
    }
    previous = begin;
    previousLength = written - begin;
  }
  return out;
}

function packBits(code: Uint8Array, expected: number): Uint8Array {
  const out = new Uint8Array(expected);
  let written = 0;
  for (let at = 0; written < expected;) {
    const count = code[at++];
    if (count === undefined) throw truncated('TIFF');
    if (count === 128) continue;
    if (count < 128) {
      const run = code.subarray(at, at + Math.min(count + 1, expected - written));
      if (at + count + 1 > code.length) throw truncated('TIFF');
      out.set(run, written);
      written += run.length;
      at += count + 1;
    } else {
      const value = code[at++];
      if (value === undefined) throw truncated('TIFF');
      const run = Math.min(257 - count, expected - written);
      out.fill(value, written, written + run);
      written += run;
    }
  }
  return out;
}

function deflated(code: Uint8Array, expected: number): Uint8Array {
  let out: Uint8Array;
  try {
    out = inflateSync(code, { maxOutputLength: expected + 65_536, finishFlush: constants.Z_SYNC_FLUSH });
  } catch {
    throw corrupt('TIFF', 'damaged pixel data');
  }
  return out;
}

/** `expected` bytes of a strip or tile, writable. */
export function expandTiff(compression: number, code: Uint8Array, expected: number): Uint8Array {
  if (compression === 5) return lzw(code, expected);
  if (compression === 32773) return packBits(code, expected);
  const out = compression === 1 ? code.slice(0, expected) : deflated(code, expected);
  if (out.length < expected) throw truncated('TIFF');
  return out;
}
