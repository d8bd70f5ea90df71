/** WebP by libwebp in WebAssembly; the container is read here, also to cut the first frame out of an animation. */
import type { ByteReader } from './bytes';
import { corrupt, truncated } from './bytes';
import { exifOrientation, xmpOrientation } from './orientation';
import type { DecodedPicture, ImageHeader } from './sniff';
import { instantiate, WasmExit, type WasmMemory } from './wasm';

interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
  alpha?: Uint8Array; // the chunks, headers included
  bitstream: Uint8Array;
}

interface WebpInfo {
  width: number;
  height: number;
  frames: number;
  first?: Frame;
  animated: boolean;
  orientation?: number;
}

export function isWebp(reader: ByteReader): boolean {
  return reader.spells(0, 'RIFF') && reader.spells(8, 'WEBP');
}

interface Chunk {
  type: string;
  at: number; // of the payload
  size: number;
}

function* chunksOf(reader: ByteReader, at: number, end: number): Generator<Chunk> {
  while (at + 8 <= end) {
    const chunk = { type: Buffer.from(reader.slice(at, 4)).toString('latin1'), at: at + 8, size: reader.u32(at + 4) };
    if (chunk.at + chunk.size > end) throw truncated('WebP');
    yield chunk;
    at = chunk.at + chunk.size + (chunk.size & 1);
  }
}

/** Size of a VP8 or VP8L bitstream, from its own header: the container's word is not enough. */
function bitstreamSize(reader: ByteReader, { type, at }: Chunk): { width: number; height: number } {
  if (type === 'VP8 ') {
    if (reader.u24(at + 3) !== 0x2a019d) throw corrupt('WebP', 'a frame without a start code');
    return { width: reader.u16(at + 6) & 0x3fff, height: reader.u16(at + 8) & 0x3fff };
  }
  if (reader.u8(at) !== 0x2f) throw corrupt('WebP', 'a frame without a start code');
  const bits = reader.u32(at + 1);
  return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
}

const isBitstream = (type: string): boolean => type === 'VP8 ' || type === 'VP8L';
const whole = (reader: ByteReader, chunk: Chunk): Uint8Array => reader.slice(chunk.at - 8, chunk.size + 8);

function readFrame(reader: ByteReader, chunk: Chunk): Frame {
  let alpha: Uint8Array | undefined;
  for (const part of chunksOf(reader, chunk.at + 16, chunk.at + chunk.size)) {
    if (part.type === 'ALPH') alpha = whole(reader, part);
    if (!isBitstream(part.type)) continue;
    const size = bitstreamSize(reader, part);
    const frame = {
      left: reader.u24(chunk.at) * 2,
      top: reader.u24(chunk.at + 3) * 2,
      ...size,
      alpha,
      bitstream: whole(reader, part),
    };
    if (size.width !== reader.u24(chunk.at + 6) + 1 || size.height !== reader.u24(chunk.at + 9) + 1) {
      throw corrupt('WebP', 'a frame of another size than announced');
    }
    return frame;
  }
  throw truncated('WebP');
}

function readInfo(reader: ByteReader): WebpInfo {
  reader.littleEndian = true;
  const end = 8 + reader.u32(4);
  if (end > reader.length) throw truncated('WebP');
  const info: WebpInfo = { width: 0, height: 0, frames: 0, animated: false };
  let canvas: { width: number; height: number } | undefined;
  let xmp: number | undefined;
  for (const chunk of chunksOf(reader, 12, end)) {
    if (chunk.type === 'VP8X') canvas = { width: reader.u24(chunk.at + 4) + 1, height: reader.u24(chunk.at + 7) + 1 };
    else if (isBitstream(chunk.type) && info.frames === 0) {
      Object.assign(info, bitstreamSize(reader, chunk), { frames: 1 });
    } else if (chunk.type === 'ANMF') {
      info.animated = true;
      if (info.frames++ === 0) info.first = readFrame(reader, chunk);
    } else if (chunk.type === 'EXIF') info.orientation ??= exifOrientation(reader.slice(chunk.at, chunk.size));
    else if (chunk.type === 'XMP ') xmp ??= xmpOrientation(reader.slice(chunk.at, chunk.size));
  }
  if (info.frames === 0) throw truncated('WebP');
  if (info.animated) {
    if (!canvas) throw corrupt('WebP', 'an animation without a canvas');
    Object.assign(info, canvas);
    const { left, top, width, height } = info.first!;
    if (left + width > info.width || top + height > info.height) throw corrupt('WebP', 'a frame outside its canvas');
  } else if (canvas && (canvas.width !== info.width || canvas.height !== info.height)) {
    throw corrupt('WebP', 'a picture of another size than its canvas');
  }
  info.orientation ??= xmp;
  return info;
}

export function readWebpHeader(reader: ByteReader): ImageHeader {
  const { width, height, frames } = readInfo(reader);
  return { format: 'WebP', width, height, frames };
}

/** A file of its own around one frame's chunks. */
function wrap({ width, height, alpha, bitstream }: Frame): Uint8Array {
  const parts: Uint8Array[] = [];
  const add = (chunk: Uint8Array): void => void parts.push(chunk, new Uint8Array(chunk.length & 1));
  if (alpha) {
    const extended = Buffer.alloc(18);
    extended.write('VP8X', 'latin1');
    extended.writeUInt32LE(10, 4);
    extended[8] = 0x10; // has alpha
    extended.writeUIntLE(width - 1, 12, 3);
    extended.writeUIntLE(height - 1, 15, 3);
    add(extended);
    add(alpha);
  }
  add(bitstream);
  const header = Buffer.from('RIFF\0\0\0\0WEBP', 'latin1');
  header.writeUInt32LE(
    parts.reduce((sum, part) => sum + part.length, 4),
    4,
  );
  return Buffer.concat([header, ...parts]);
}

interface WebpExports {
  memory: WasmMemory;
  malloc(size: number): number;
  WebPDecodeRGBA(data: number, size: number, width: number, height: number): number;
}

/** RGB of a still file; alpha is dropped, hidden colours show. */
function decompress(bytes: Uint8Array, width: number, height: number): Uint8Array {
  const webp = instantiate('@cwasm/webp/webp.wasm') as unknown as WebpExports;
  const input = webp.malloc(bytes.length);
  const fields = webp.malloc(8);
  if (input === 0 || fields === 0) throw new WasmExit('out of memory');
  new Uint8Array(webp.memory.buffer, input, bytes.length).set(bytes);
  const pixels = webp.WebPDecodeRGBA(input, bytes.length, fields, fields + 4);
  if (pixels === 0) throw new WasmExit('no picture');
  const size = new Int32Array(webp.memory.buffer, fields, 2);
  if (size[0] !== width || size[1] !== height) throw new WasmExit('another size');
  const rgba = new Uint8Array(webp.memory.buffer, pixels, width * height * 4);
  const out = new Uint8Array(width * height * 3);
  for (let i = 0, j = 0; j < out.length; i += 4) {
    out[j++] = rgba[i]!;
    out[j++] = rgba[i + 1]!;
    out[j++] = rgba[i + 2]!;
  }
  return out;
}

export function decodeWebp(reader: ByteReader): DecodedPicture {
  const info = readInfo(reader);
  const { width, height, orientation, first } = info;
  try {
    if (!first)
      return { image: { width, height, channels: 3, data: decompress(reader.bytes, width, height) }, orientation };
    const frame = decompress(wrap(first), first.width, first.height);
    const data = new Uint8Array(width * height * 3); // around the first frame the canvas is transparent black
    for (let y = 0; y < first.height; y++) {
      data.set(
        frame.subarray(y * first.width * 3, (y + 1) * first.width * 3),
        ((first.top + y) * width + first.left) * 3,
      );
    }
    return { image: { width, height, channels: 3, data }, orientation };
  } catch {
    throw corrupt('WebP', 'damaged data');
  }
}
