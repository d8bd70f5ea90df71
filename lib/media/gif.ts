/** GIF: the first frame as composed on the screen, to RGB. */
import type { ByteReader } from './bytes';
import { corrupt, truncated } from './bytes';
import type { DecodedPicture, ImageHeader } from './sniff';

interface GifInfo {
  width: number;
  height: number;
  /** Index that fills what the first frame leaves open. */
  background: number;
  palette?: Uint8Array;
  frame: { left: number; top: number; width: number; height: number; interlaced: boolean; data: number };
}

/** Frames counted for the header; an animation may have more. */
const maxCountedFrames = 10_000;

export function isGif(reader: ByteReader): boolean {
  return reader.spells(0, 'GIF87a') || reader.spells(0, 'GIF89a');
}

function skipSubBlocks(reader: ByteReader, at: number): number {
  for (let size = reader.u8(at++); size !== 0; size = reader.u8(at++)) at += size;
  return at;
}

function readInfo(reader: ByteReader): GifInfo {
  reader.littleEndian = true;
  const flags = reader.u8(10);
  let at = 13;
  let palette: Uint8Array | undefined;
  if (flags & 0x80) {
    palette = reader.slice(at, 3 << ((flags & 7) + 1));
    at += palette.length;
  }
  let background = flags & 0x80 ? reader.u8(11) : 0;
  for (;;) {
    const block = reader.u8(at++);
    if (block === 0x3b) throw truncated('GIF');
    if (block === 0x21) {
      const label = reader.u8(at++);
      // What a transparent frame leaves open shows the transparent index.
      if (label === 0xf9 && reader.u8(at) === 4 && reader.u8(at + 1) & 1) background = reader.u8(at + 4);
      at = skipSubBlocks(reader, at);
      continue;
    }
    if (block !== 0x2c) continue; // stray bytes between blocks are skipped, as in Pillow
    const frame = {
      left: reader.u16(at),
      top: reader.u16(at + 2),
      width: reader.u16(at + 4),
      height: reader.u16(at + 6),
    };
    const local = reader.u8(at + 8);
    at += 9;
    if (local & 0x80) {
      palette = reader.slice(at, 3 << ((local & 7) + 1));
      at += palette.length;
    }
    return {
      // A first frame beyond the screen widens it.
      width: Math.max(reader.u16(6), frame.left + frame.width),
      height: Math.max(reader.u16(8), frame.top + frame.height),
      background,
      palette,
      frame: { ...frame, interlaced: (local & 0x40) !== 0, data: at },
    };
  }
}

function countFrames(reader: ByteReader, at: number): number {
  let frames = 1;
  try {
    for (at = skipSubBlocks(reader, at + 1); frames < maxCountedFrames;) {
      const block = reader.u8(at++);
      if (block === 0x3b) break;
      if (block === 0x21) at = skipSubBlocks(reader, at + 1);
      else if (block === 0x2c) {
        const local = reader.u8(at + 8);
        at = skipSubBlocks(reader, at + 9 + (local & 0x80 ? 3 << ((local & 7) + 1) : 0) + 1);
        frames++;
      } else break;
    }
  } catch {
    // A later frame is cut short: only the first is ever decoded.
  }
  return frames;
}

export function readGifHeader(reader: ByteReader): ImageHeader {
  const { width, height, frame } = readInfo(reader);
  return { format: 'GIF', width, height, frames: countFrames(reader, frame.data) };
}

const interlace: readonly (readonly [number, number])[] = [
  [0, 8],
  [4, 8],
  [2, 4],
  [1, 2],
];

/** LZW of the sub-blocks at `at` into `count` palette indices. */
function inflate(reader: ByteReader, at: number, count: number): Uint8Array {
  const minimum = reader.u8(at++);
  if (minimum < 1 || minimum > 11) throw corrupt('GIF', `codes of ${minimum} bits`);
  const clear = 1 << minimum;
  const out = new Uint8Array(count);
  // Entry i is the string that begins at start[i] of the output and is length[i] long: no stack, no prefix chain.
  const start = new Int32Array(4096);
  const length = new Int32Array(4096);
  let next = clear + 2;
  let width = minimum + 1;
  let previous = -1; // where the previous string begins
  let previousLength = 0;
  let written = 0;
  let bits = 0;
  let held = 0;
  let left = 0;
  const { bytes } = reader;
  while (written < count) {
    while (held < width) {
      if (left === 0) {
        left = reader.u8(at++);
        if (left === 0 || at + left > bytes.length) throw truncated('GIF');
      }
      bits |= bytes[at++]! << held;
      held += 8;
      left--;
    }
    const code = bits & ((1 << width) - 1);
    bits >>>= width;
    held -= width;
    if (code === clear) {
      next = clear + 2;
      width = minimum + 1;
      previous = -1;
      continue;
    }
    if (code === clear + 1) throw truncated('GIF');
    const begin = written;
    if (code < clear) {
      out[written++] = code;
    } else {
      const known = code < next;
      if (!known && (code !== next || previous < 0)) throw corrupt('GIF', 'an impossible code');
      const from = known ? start[code]! : previous;
      const size = Math.min(known ? length[code]! : previousLength + 1, count - written);
      for (let i = 0; i < size; i++) out[written++] = out[from + i]!; // may overlap by one: the new string ends as it begins
    }
    if (previous >= 0 && next < 4096) {
      start[next] = previous;
      length[next] = previousLength + 1;
      next++;
      if (next === 1 << width && width < 12) width++;
    }
    previous = begin;
    previousLength = written - begin;
  }
  return out;
}

export function decodeGif(reader: ByteReader): DecodedPicture {
  const { width, height, background, palette, frame } = readInfo(reader);
  if (frame.width === 0 || frame.height === 0) throw corrupt('GIF', 'an empty frame');
  const indices = inflate(reader, frame.data, frame.width * frame.height);
  const colors = new Uint8Array(768);
  if (palette) colors.set(palette);
  else for (let v = 0; v < 256; v++) colors.fill(v, v * 3, v * 3 + 3); // no palette at all: gray
  const out = new Uint8Array(width * height * 3);
  const whole = frame.width === width && frame.height === height;
  if (!whole)
    for (let i = 0; i < out.length; i += 3) for (let c = 0; c < 3; c++) out[i + c] = colors[background * 3 + c]!;
  let row = 0;
  for (const [first, step] of frame.interlaced ? interlace : ([[0, 1]] as const)) {
    for (let y = first; y < frame.height; y += step, row++) {
      let to = ((frame.top + y) * width + frame.left) * 3;
      for (let x = 0, from = row * frame.width; x < frame.width; x++, from++) {
        const color = indices[from]! * 3;
        out[to++] = colors[color]!;
        out[to++] = colors[color + 1]!;
        out[to++] = colors[color + 2]!;
      }
    }
  }
  return { image: { width, height, channels: 3, data: out } };
}
