/** BMP: 1 to 32 bits, palettes, bit masks, RLE4 and RLE8, both row orders, to RGB. */
import type { ByteReader } from './bytes';
import { corrupt, truncated, unsupported } from './bytes';
import type { DecodedPicture, ImageHeader } from './sniff';

interface BmpInfo {
  width: number;
  height: number;
  topDown: boolean;
  bits: number;
  compression: number;
  masks?: readonly [number, number, number];
  palette: Uint8Array; // 256 RGB entries; what the file lacks is black
  data: number;
}

export function isBmp(reader: ByteReader): boolean {
  return reader.spells(0, 'BM');
}

const headerSizes = [12, 16, 40, 52, 56, 64, 108, 124];

function readInfo(reader: ByteReader): BmpInfo {
  reader.littleEndian = true;
  const size = reader.u32(14);
  if (!headerSizes.includes(size)) throw corrupt('BMP', `a header of ${size} bytes`);
  const old = size === 12;
  const width = old ? reader.u16(18) : reader.i32(18);
  const signed = old ? reader.u16(20) : reader.i32(22);
  const bits = reader.u16(old ? 24 : 28);
  const compression = size >= 40 ? reader.u32(30) : 0;
  if (![1, 4, 8, 16, 24, 32].includes(bits)) throw corrupt('BMP', `pixels of ${bits} bits`);
  const masked = compression === 3 && (bits === 16 || bits === 32);
  if (!(compression === 0 || masked || (compression === 1 && bits === 8) || (compression === 2 && bits === 4))) {
    throw unsupported(`a BMP with compression ${compression}`);
  }
  const palette = new Uint8Array(768);
  const data = reader.u32(10);
  if (bits <= 8) {
    const entrySize = old ? 3 : 4;
    const stated = size >= 40 ? reader.u32(46) : 0;
    const at = 14 + size;
    const entries = Math.min(
      stated === 0 ? 1 << bits : stated,
      256,
      Math.floor(Math.max(0, Math.min(data, reader.length) - at) / entrySize),
    );
    for (let i = 0; i < entries; i++) {
      for (let c = 0; c < 3; c++) palette[i * 3 + c] = reader.u8(at + i * entrySize + 2 - c);
    }
  }
  const masks = masked
    ? ([reader.u32(54), reader.u32(58), reader.u32(62)] as const)
    : bits === 16
      ? ([0x7c00, 0x3e0, 0x1f] as const)
      : undefined;
  return { width, height: Math.abs(signed), topDown: signed < 0, bits, compression, masks, palette, data };
}

export function readBmpHeader(reader: ByteReader): ImageHeader {
  const { width, height } = readInfo(reader);
  return { format: 'BMP', width, height };
}

/** Palette indices of a run-length coded picture, rows as in the file (from the bottom). Skipped pixels are 0. */
function expandRuns(reader: ByteReader, { width, height, bits, data }: BmpInfo): Uint8Array {
  const out = new Uint8Array(width * height);
  const nibbles = bits === 4;
  let x = 0;
  let y = 0;
  const put = (value: number): void => {
    if (x < width && y < height) out[y * width + x] = value;
    x++;
  };
  for (let at = data; y < height;) {
    const count = reader.u8(at++);
    const value = reader.u8(at++);
    if (count > 0) {
      for (let i = 0; i < count; i++) put(nibbles ? (i & 1 ? value & 15 : value >> 4) : value);
    } else if (value === 0) {
      x = 0;
      y++;
    } else if (value === 1) {
      break;
    } else if (value === 2) {
      x += reader.u8(at++);
      y += reader.u8(at++);
    } else {
      for (let i = 0; i < value; i++) {
        const byte = reader.u8(nibbles ? at + (i >> 1) : at + i);
        put(nibbles ? (i & 1 ? byte & 15 : byte >> 4) : byte);
      }
      const used = nibbles ? (value + 1) >> 1 : value;
      at += used + (used & 1);
    }
  }
  return out;
}

/** Values of a masked channel, scaled to 0..255. */
function channelOf(mask: number): (pixel: number) => number {
  if (mask === 0) return () => 0;
  const shift = 31 - Math.clz32(mask & -mask);
  const top = mask >>> shift;
  return top === 255
    ? (pixel) => (pixel >>> shift) & 255
    : (pixel) => Math.floor((((pixel & mask) >>> shift) * 255) / top);
}

export function decodeBmp(reader: ByteReader): DecodedPicture {
  const info = readInfo(reader);
  const { width, height, bits, palette, data } = info;
  const stride = Math.ceil((width * bits) / 32) * 4;
  const runs = info.compression === 1 || info.compression === 2;
  // The last row's padding may be missing.
  if (!runs && data + stride * (height - 1) + Math.ceil((width * bits) / 8) > reader.length) throw truncated('BMP');
  // A run is at most 255 pixels for two bytes, and a skip 255 rows for four: far less data is a lie.
  if (runs && (reader.length - data) * 255 * 255 < height) throw truncated('BMP');
  const indices = runs ? expandRuns(reader, info) : undefined;
  const { bytes } = reader;
  const out = new Uint8Array(width * height * 3);
  const mask = (1 << Math.min(bits, 8)) - 1;
  const channels = info.masks?.map(channelOf);
  for (let y = 0; y < height; y++) {
    const row = data + y * stride;
    let to = (info.topDown ? y : height - 1 - y) * width * 3;
    for (let x = 0; x < width; x++) {
      if (bits <= 8) {
        const index = indices
          ? indices[y * width + x]!
          : (bytes[row + ((x * bits) >> 3)]! >> (8 - bits - ((x * bits) & 7))) & mask;
        for (let c = 0; c < 3; c++) out[to++] = palette[index * 3 + c]!;
      } else if (channels) {
        const pixel = bits === 16 ? reader.u16(row + x * 2) : reader.u32(row + x * 4);
        for (let c = 0; c < 3; c++) out[to++] = channels[c]!(pixel);
      } else {
        const from = row + x * (bits >> 3);
        for (let c = 2; c >= 0; c--) out[to++] = bytes[from + c]!;
      }
    }
  }
  return { image: { width, height, channels: 3, data: out } };
}
