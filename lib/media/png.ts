/** PNG: every colour type, depth and interlacing, to RGB as Pillow converts it. tRNS, gAMA, iCCP and the like change no pixel. */
import { constants, inflateRawSync } from 'node:zlib';
import type { ByteReader } from './bytes';
import { corrupt, truncated } from './bytes';
import { exifOrientation, xmpOrientation } from './orientation';
import type { DecodedPicture, ImageHeader } from './sniff';

const signature = '\x89PNG\r\n\x1a\n';
/** Bytes of slack after the last row: real files have some, a bomb has megabytes. */
const overrunAllowance = 65_536;
/** DEFLATE's best ratio is 1032 to 1; a header that promises more is lying. */
const maxInflation = 1032;

const channelsOf: Record<number, number> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const depthsOf: Record<number, readonly number[]> = {
  0: [1, 2, 4, 8, 16],
  2: [8, 16],
  3: [1, 2, 4, 8],
  4: [8, 16],
  6: [8, 16],
};
/** Adam7: x, y of the first pixel and the steps, per pass. */
const adam7: readonly (readonly [number, number, number, number])[] = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
];

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

export function crc32(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of bytes) c = crcTable[(c ^ byte) & 255]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

export function isPng(reader: ByteReader): boolean {
  return reader.spells(0, signature);
}

interface PngInfo {
  width: number;
  height: number;
  depth: number;
  colorType: number;
  interlaced: boolean;
}

function readInfo(reader: ByteReader): PngInfo {
  if (reader.u32(8) !== 13 || !reader.spells(12, 'IHDR')) throw corrupt('PNG', 'one without a header');
  if (crc32(reader.slice(12, 17)) !== reader.u32(29)) throw corrupt('PNG', 'a header with a wrong checksum');
  const info = {
    width: reader.u32(16),
    height: reader.u32(20),
    depth: reader.u8(24),
    colorType: reader.u8(25),
    interlaced: reader.u8(28) === 1,
  };
  if (!depthsOf[info.colorType]?.includes(info.depth)) {
    throw corrupt('PNG', `colour type ${info.colorType} with ${info.depth} bits`);
  }
  if (reader.u8(26) !== 0 || reader.u8(27) !== 0 || reader.u8(28) > 1) throw corrupt('PNG', 'an unknown compression');
  return info;
}

export function readPngHeader(reader: ByteReader): ImageHeader {
  const { width, height } = readInfo(reader);
  return { format: 'PNG', width, height };
}

interface PngChunks {
  idat: Uint8Array[];
  palette?: Uint8Array;
  orientation?: number;
}

function readChunks(reader: ByteReader): PngChunks {
  const chunks: PngChunks = { idat: [] };
  let xmp: number | undefined;
  for (let at = 33; at + 8 <= reader.length;) {
    const length = reader.u32(at);
    const type = Buffer.from(reader.slice(at + 4, 4)).toString('latin1');
    if (type === 'IEND') break;
    const cut = at + 12 + length > reader.length;
    // After the pixels nothing is needed; before them a chunk that is cut short means that they are missing.
    if (cut && (chunks.idat.length === 0 || type === 'IDAT')) throw truncated('PNG');
    if (cut) break;
    const data = reader.slice(at + 8, length);
    if (type === 'IDAT') chunks.idat.push(data);
    else if (type === 'PLTE' && chunks.idat.length === 0) {
      if (crc32(reader.slice(at + 4, length + 4)) !== reader.u32(at + 8 + length))
        throw corrupt('PNG', 'a palette with a wrong checksum');
      chunks.palette = data.subarray(0, 768);
    } else if (type === 'eXIf') chunks.orientation ??= exifOrientation(data);
    else if (
      type === 'iTXt' &&
      Buffer.from(data.subarray(0, 20)).toString('latin1').startsWith('XML:com.adobe.xmp\0\0')
    )
      xmp ??= xmpOrientation(data);
    at += 12 + length;
  }
  chunks.orientation ??= xmp;
  return chunks;
}

function inflate(parts: readonly Uint8Array[], expected: number): Uint8Array {
  const stream = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  if (stream.length < 3) throw truncated('PNG');
  const header = (stream[0]! << 8) | stream[1]!;
  if ((stream[0]! & 15) !== 8 || header % 31 !== 0 || stream[1]! & 32)
    throw corrupt('PNG', 'pixels that are not a zlib stream');
  if (expected > stream.length * maxInflation) throw truncated('PNG');
  let data: Uint8Array;
  try {
    // Raw, and with a lenient end: the checksum after the last row is not looked at, as in Pillow.
    data = inflateRawSync(stream.subarray(2), {
      maxOutputLength: expected + overrunAllowance,
      chunkSize: Math.max(1024, Math.min(expected + 64, 1 << 26)),
      finishFlush: constants.Z_SYNC_FLUSH,
    });
  } catch (e) {
    if ((e as { code?: string }).code === 'ERR_BUFFER_TOO_LARGE')
      throw corrupt('PNG', 'far more data than its header announces');
    throw corrupt('PNG', 'damaged pixel data');
  }
  if (data.length < expected) throw truncated('PNG');
  return data;
}

/** Undoes the row filters of one pass in place; rows are 1 + stride bytes. Above the first row and left of a row is 0. */
function unfilter(data: Uint8Array, at: number, rows: number, stride: number, bpp: number): void {
  let above: Uint8Array = new Uint8Array(stride);
  for (let y = 0; y < rows; y++, at += stride + 1) {
    const filter = data[at]!;
    const row = data.subarray(at + 1, at + 1 + stride);
    if (filter === 1) {
      for (let i = bpp; i < stride; i++) row[i] = row[i]! + row[i - bpp]!;
    } else if (filter === 2) {
      for (let i = 0; i < stride; i++) row[i] = row[i]! + above[i]!;
    } else if (filter === 3) {
      for (let i = 0; i < bpp && i < stride; i++) row[i] = row[i]! + (above[i]! >> 1);
      for (let i = bpp; i < stride; i++) row[i] = row[i]! + ((row[i - bpp]! + above[i]!) >> 1);
    } else if (filter === 4) {
      for (let i = 0; i < bpp && i < stride; i++) row[i] = row[i]! + above[i]!;
      for (let i = bpp; i < stride; i++) {
        const left = row[i - bpp]!;
        const up = above[i]!;
        const corner = above[i - bpp]!;
        // Distances of left + up - corner from each of the three.
        const a = Math.abs(up - corner);
        const b = Math.abs(left - corner);
        const c = Math.abs(left + up - 2 * corner);
        row[i] = row[i]! + (a <= b && a <= c ? left : b <= c ? up : corner);
      }
    } else if (filter !== 0) {
      throw corrupt('PNG', `row filter ${filter}`);
    }
    above = row;
  }
}

/** RGB of every sample value of gray and palette pictures; gray scales to 0..255, indices beyond the palette are black. */
function lookup(info: PngInfo, palette: Uint8Array | undefined): Uint8Array {
  const values = info.depth === 16 ? 256 : 1 << info.depth;
  const table = new Uint8Array(values * 3);
  if (info.colorType === 3) {
    const entries = Math.floor((palette?.length ?? 0) / 3) * 3;
    if (palette) table.set(palette.subarray(0, Math.min(entries, table.length)));
    return table;
  }
  for (let v = 0; v < values; v++) table.fill((v * 255) / (values - 1), v * 3, v * 3 + 3);
  return table;
}

/** Converts a pass's unfiltered rows into the RGB raster at every stepX-th column, stepY-th row. */
function spread(
  info: PngInfo,
  table: Uint8Array,
  data: Uint8Array,
  at: number,
  pass: readonly [number, number, number, number],
  out: Uint8Array,
): void {
  const [x0, y0, stepX, stepY] = pass;
  const { width, height, depth, colorType } = info;
  const columns = Math.ceil((width - x0) / stepX);
  const channels = channelsOf[colorType]!;
  const stride = Math.ceil((columns * channels * depth) / 8);
  const sample = depth === 16 ? 2 : 1; // 16 bits: the high byte
  const pixel = channels * sample;
  const move = stepX * 3;
  for (let y = y0; y < height; y += stepY) {
    const row = at + 1;
    let to = (y * width + x0) * 3;
    if (channels >= 3) {
      for (let x = 0, from = row; x < columns; x++, from += pixel, to += move) {
        out[to] = data[from]!;
        out[to + 1] = data[from + sample]!;
        out[to + 2] = data[from + 2 * sample]!;
      }
    } else {
      const mask = (1 << Math.min(depth, 8)) - 1;
      for (let x = 0; x < columns; x++, to += move) {
        const value =
          depth >= 8
            ? data[row + x * pixel]!
            : (data[row + ((x * depth) >> 3)]! >> (8 - depth - ((x * depth) & 7))) & mask;
        out[to] = table[value * 3]!;
        out[to + 1] = table[value * 3 + 1]!;
        out[to + 2] = table[value * 3 + 2]!;
      }
    }
    at = row + stride;
  }
}

export function decodePng(reader: ByteReader): DecodedPicture {
  const info = readInfo(reader);
  const chunks = readChunks(reader);
  if (chunks.idat.length === 0) throw truncated('PNG');
  const bits = channelsOf[info.colorType]! * info.depth;
  const passes = (info.interlaced ? adam7 : ([[0, 0, 1, 1]] as const))
    .map((pass) => {
      const columns = Math.ceil((info.width - pass[0]) / pass[2]);
      const rows = Math.ceil((info.height - pass[1]) / pass[3]);
      return { pass, rows, stride: Math.ceil((columns * bits) / 8), empty: columns <= 0 || rows <= 0 };
    })
    .filter(({ empty }) => !empty);
  const expected = passes.reduce((sum, { rows, stride }) => sum + rows * (stride + 1), 0);
  const data = inflate(chunks.idat, expected);
  const out = new Uint8Array(info.width * info.height * 3);
  const table = lookup(info, chunks.palette);
  let at = 0;
  for (const { pass, rows, stride } of passes) {
    unfilter(data, at, rows, stride, Math.max(1, bits >> 3));
    spread(info, table, data, at, pass, out);
    at += rows * (stride + 1);
  }
  return { image: { width: info.width, height: info.height, channels: 3, data: out }, orientation: chunks.orientation };
}
