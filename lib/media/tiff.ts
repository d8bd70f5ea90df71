/** TIFF, first page: gray, RGB, palette and CMYK of 1 to 16 bits, strips or tiles, to RGB. JPEG and fax codes are refused. */
import type { ByteReader } from './bytes';
import { corrupt, truncated, unsupported } from './bytes';
import type { DecodedPicture, ImageHeader } from './sniff';
import { expandTiff, maxExpansion } from './tiff-codes';

const tags = {
  width: 256,
  height: 257,
  bits: 258,
  compression: 259,
  photometric: 262,
  fillOrder: 266,
  stripOffsets: 273,
  orientation: 274,
  samples: 277,
  rowsPerStrip: 278,
  stripSizes: 279,
  planar: 284,
  predictor: 317,
  colorMap: 320,
  tileWidth: 322,
  tileHeight: 323,
  tileOffsets: 324,
  tileSizes: 325,
  sampleFormat: 339,
};

const typeSizes: Record<number, number> = { 1: 1, 3: 2, 4: 4 };
const maxPages = 1000;

/** The pages of a file are a linked list that may loop. */
function countPages(reader: ByteReader, first: number): number {
  const seen = new Set<number>();
  try {
    for (let at = first; at !== 0 && !seen.has(at) && seen.size < maxPages;) {
      const next = at + 2 + reader.u16(at) * 12;
      seen.add(at);
      at = reader.u32(next);
    }
  } catch {
    // A later page is cut short: only the first is ever decoded.
  }
  return seen.size;
}

export function isTiff(reader: ByteReader): boolean {
  return reader.spells(0, 'II*\0') || reader.spells(0, 'MM\0*');
}

class Page {
  private readonly entries = new Map<number, { type: number; count: number; at: number }>();

  constructor(private readonly reader: ByteReader) {
    reader.littleEndian = reader.u8(0) === 0x49;
    const ifd = reader.u32(4);
    const count = reader.u16(ifd);
    for (let i = 0; i < count; i++) {
      const at = ifd + 2 + i * 12;
      this.entries.set(reader.u16(at), { type: reader.u16(at + 2), count: reader.u32(at + 4), at: at + 8 });
    }
  }

  /** All values of a tag; the count is checked against the file before anything is allocated. */
  all(tag: number): number[] {
    const entry = this.entries.get(tag);
    const size = entry && typeSizes[entry.type];
    if (!entry || !size) return [];
    const at = entry.count * size <= 4 ? entry.at : this.reader.u32(entry.at);
    this.reader.slice(at, entry.count * size);
    return Array.from({ length: entry.count }, (_, i) =>
      size === 1 ? this.reader.u8(at + i) : size === 2 ? this.reader.u16(at + i * 2) : this.reader.u32(at + i * 4),
    );
  }

  one(tag: number, otherwise: number): number {
    const entry = this.entries.get(tag);
    return entry && entry.count >= 1 ? (this.all(tag)[0] ?? otherwise) : otherwise;
  }
}

export function readTiffHeader(reader: ByteReader): ImageHeader {
  const page = new Page(reader);
  return {
    format: 'TIFF',
    width: page.one(tags.width, 0),
    height: page.one(tags.height, 0),
    frames: countPages(reader, reader.u32(4)),
  };
}

interface Layout {
  width: number;
  height: number;
  bits: number;
  samples: number;
  photometric: number;
  compression: number;
  predictor: number;
  planar: boolean;
  blockWidth: number;
  blockHeight: number;
  offsets: number[];
  sizes: number[];
  colors: Uint8Array; // RGB of each value, for gray and palette pictures
}

/** Samples that RGB is made of. */
function usedSamples(photometric: number): number {
  return photometric === 2 ? 3 : photometric === 5 ? 4 : 1;
}

function colorTable(page: Page, photometric: number, bits: number): Uint8Array {
  const values = 1 << Math.min(bits, 8);
  const table = new Uint8Array(values * 3);
  if (photometric === 3) {
    const map = page.all(tags.colorMap);
    for (let v = 0; v < values; v++) for (let c = 0; c < 3; c++) table[v * 3 + c] = (map[c * values + v] ?? 0) >> 8;
  } else {
    for (let v = 0; v < values; v++)
      table.fill(((photometric === 0 ? values - 1 - v : v) * 255) / (values - 1), v * 3, v * 3 + 3);
  }
  return table;
}

function readLayout(page: Page): Layout {
  const width = page.one(tags.width, 0);
  const height = page.one(tags.height, 0);
  const samples = page.one(tags.samples, 1);
  const bitsOf = page.all(tags.bits);
  const bits = bitsOf[0] ?? 1;
  const photometric = page.one(tags.photometric, 1);
  const compression = page.one(tags.compression, 1);
  const tiled = page.one(tags.tileWidth, 0) > 0;
  if (!(compression in maxExpansion)) throw unsupported(`a TIFF with compression ${compression}`);
  if (![0, 1, 2, 3, 5].includes(photometric)) throw unsupported(`a TIFF of colour model ${photometric}`);
  if (![1, 2, 4, 8, 16].includes(bits) || bitsOf.some((b) => b !== bits))
    throw unsupported(`a TIFF of ${bitsOf.join(', ')} bits`);
  if (page.all(tags.sampleFormat).some((f) => f !== 1)) throw unsupported('a TIFF of other than unsigned values');
  if (page.one(tags.fillOrder, 1) !== 1) throw unsupported('a TIFF with reversed bits');
  if (samples < usedSamples(photometric) || samples > 16) throw corrupt('TIFF', `${samples} samples per pixel`);
  if (bits < 8 && samples > 1) throw unsupported('a TIFF of several samples per byte');
  const layout: Layout = {
    width,
    height,
    bits,
    samples,
    photometric,
    compression,
    predictor: page.one(tags.predictor, 1),
    planar: page.one(tags.planar, 1) === 2 && samples > 1,
    blockWidth: tiled ? page.one(tags.tileWidth, 0) : width,
    blockHeight: tiled ? page.one(tags.tileHeight, 0) : Math.min(height, page.one(tags.rowsPerStrip, height)),
    offsets: page.all(tiled ? tags.tileOffsets : tags.stripOffsets),
    sizes: page.all(tiled ? tags.tileSizes : tags.stripSizes),
    colors: colorTable(page, photometric, bits),
  };
  if (layout.predictor > 2 || (layout.predictor === 2 && bits < 8))
    throw unsupported(`a TIFF with predictor ${layout.predictor}`);
  if (!(
    layout.blockWidth >= 1 &&
    layout.blockHeight >= 1 &&
    layout.blockWidth <= width + 65_536 &&
    layout.blockHeight <= height + 65_536
  )) {
    throw corrupt('TIFF', 'tiles of an impossible size');
  }
  return layout;
}

/** Undoes horizontal differencing of one row. */
function undifference(
  data: Uint8Array,
  row: number,
  columns: number,
  samples: number,
  wide: boolean,
  littleEndian: boolean,
): void {
  if (!wide) {
    for (let i = samples; i < columns * samples; i++) data[row + i] = data[row + i]! + data[row + i - samples]!;
    return;
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let i = samples; i < columns * samples; i++) {
    const at = row + i * 2;
    view.setUint16(at, view.getUint16(at, littleEndian) + view.getUint16(at - samples * 2, littleEndian), littleEndian);
  }
}

export function decodeTiff(reader: ByteReader): DecodedPicture {
  const page = new Page(reader);
  const layout = readLayout(page);
  const { width, height, bits, samples, photometric, planar, blockWidth, blockHeight, offsets, sizes } = layout;
  const used = usedSamples(photometric);
  const across = Math.ceil(width / blockWidth);
  const down = Math.ceil(height / blockHeight);
  const planes = planar ? samples : 1;
  const perPixel = planar ? 1 : samples;
  const stride = Math.ceil((blockWidth * perPixel * bits) / 8);
  if (offsets.length < across * down * planes || sizes.length < offsets.length) throw truncated('TIFF');
  const stored = sizes.reduce((sum, size, i) => {
    if (offsets[i]! + size > reader.length) throw truncated('TIFF');
    return sum + size;
  }, 0);
  if (Math.ceil((width * bits) / 8) * height > stored * maxExpansion[layout.compression]!) throw truncated('TIFF');

  const raster = new Uint8Array(width * height * (used === 1 ? 3 : used));
  const wide = bits === 16;
  const sampleBytes = wide ? 2 : 1;
  const high = wide && reader.littleEndian ? 1 : 0; // 16 bits: the high byte
  const mask = (1 << Math.min(bits, 8)) - 1;
  const target = used === 1 ? 3 : used;
  for (let block = 0; block < across * down * planes; block++) {
    const plane = Math.floor(block / (across * down));
    if (plane >= used) break;
    const left = (block % across) * blockWidth;
    const top = (Math.floor(block / across) % down) * blockHeight;
    const rows = Math.min(blockHeight, height - top);
    const columns = Math.min(blockWidth, width - left);
    const data = expandTiff(layout.compression, reader.slice(offsets[block]!, sizes[block]!), stride * rows);
    for (let y = 0; y < rows; y++) {
      if (layout.predictor === 2) undifference(data, y * stride, blockWidth, perPixel, wide, reader.littleEndian);
      let to = ((top + y) * width + left) * target;
      for (let x = 0; x < columns; x++, to += target) {
        const from = y * stride + x * perPixel * sampleBytes + high;
        if (used === 1) {
          const value =
            bits >= 8 ? data[from]! : (data[y * stride + ((x * bits) >> 3)]! >> (8 - bits - ((x * bits) & 7))) & mask;
          for (let c = 0; c < 3; c++) raster[to + c] = layout.colors[value * 3 + c]!;
        } else if (planar) {
          raster[to + plane] = data[from]!;
        } else {
          for (let s = 0; s < used; s++) raster[to + s] = data[from + s * sampleBytes]!;
        }
      }
    }
  }
  const data = used === 4 ? cmykToRgb(raster) : raster;
  return { image: { width, height, channels: 3, data }, orientation: page.one(tags.orientation, 1) };
}

function cmykToRgb(cmyk: Uint8Array): Uint8Array {
  const out = new Uint8Array((cmyk.length / 4) * 3);
  for (let i = 0, j = 0; i < cmyk.length; i += 4) {
    const white = 255 - cmyk[i + 3]!;
    for (let c = 0; c < 3; c++) {
      const product = cmyk[i + c]! * white + 128;
      out[j++] = white - (((product >> 8) + product) >> 8);
    }
  }
  return out;
}
