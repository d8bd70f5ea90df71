/** JPEG by libjpeg-turbo in WebAssembly: accurate integer IDCT and fancy upsampling give the reference's bytes. */
import type { ByteReader } from './bytes';
import { corrupt, truncated, unsupported } from './bytes';
import { exifOrientation, xmpOrientation } from './orientation';
import type { DecodedPicture, ImageHeader } from './sniff';
import { instantiate, WasmExit, type WasmMemory } from './wasm';

const pixelFormatRgb = 0;
const pixelFormatCmyk = 11;

interface JpegInfo {
  width: number;
  height: number;
  components: number;
  orientation?: number;
}

export function isJpeg(reader: ByteReader): boolean {
  return reader.spells(0, '\xff\xd8\xff');
}

/** Walks the segments up to the frame header; `at` is behind it. */
function readInfo(reader: ByteReader): JpegInfo & { at: number } {
  let orientation: number | undefined;
  let xmp: number | undefined;
  for (let at = 2; ;) {
    while (reader.u8(at) !== 0xff) at++; // stray bytes between segments are skipped, as in libjpeg
    while (reader.u8(at) === 0xff) at++;
    const marker = reader.u8(at++);
    if (marker === 0xd9 || marker === 0xda) throw corrupt('JPEG', 'one without a frame header');
    if (marker === 0 || marker === 1 || (marker >= 0xd0 && marker <= 0xd8)) continue;
    const length = reader.u16(at);
    if (length < 2) throw corrupt('JPEG', 'a segment of negative length');
    if (marker === 0xe1 && reader.spells(at + 2, 'Exif\0\0'))
      orientation ??= exifOrientation(reader.slice(at + 2, length - 2));
    else if (marker === 0xe1 && reader.spells(at + 2, 'http://ns.adobe.com/xap/1.0/\0'))
      xmp ??= xmpOrientation(reader.slice(at + 2, length - 2));
    else if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      if (marker > 0xc2) throw unsupported('a lossless, hierarchical or arithmetic JPEG');
      if (reader.u8(at + 2) !== 8) throw unsupported(`a JPEG of ${reader.u8(at + 2)} bits`);
      return {
        height: reader.u16(at + 3),
        width: reader.u16(at + 5),
        components: reader.u8(at + 7),
        orientation: orientation ?? xmp,
        at: at + length,
      };
    }
    at += length;
  }
}

export function readJpegHeader(reader: ByteReader): ImageHeader {
  const { width, height } = readInfo(reader);
  return { format: 'JPEG', width, height };
}

/** libjpeg fills missing data with gray; Pillow refuses it. The end marker tells a whole file from a cut one. */
function checkComplete(reader: ByteReader, at: number): void {
  const { bytes } = reader;
  let scans = 0;
  for (;;) {
    at = bytes.indexOf(0xff, at);
    if (at < 0) throw truncated('JPEG');
    while (bytes[at] === 0xff) at++;
    const marker = bytes[at++];
    if (marker === undefined) throw truncated('JPEG');
    if (marker === 0xd9) break;
    if (marker === 0 || marker === 1 || (marker >= 0xd0 && marker <= 0xd8)) continue;
    if (marker === 0xda) scans++;
    at += Math.max(2, reader.u16(at));
  }
  if (scans === 0) throw truncated('JPEG');
}

interface TurboExports {
  memory: WasmMemory;
  malloc(size: number): number;
  tjInitDecompress(): number;
  tjDecompressHeader3(
    handle: number,
    data: number,
    size: number,
    width: number,
    height: number,
    subsampling: number,
    colorspace: number,
  ): number;
  tjDecompress2(
    handle: number,
    data: number,
    size: number,
    out: number,
    width: number,
    pitch: number,
    height: number,
    format: number,
    flags: number,
  ): number;
}

function decompress(bytes: Uint8Array, info: JpegInfo): Uint8Array {
  const turbo = instantiate('@cwasm/jpeg-turbo/jpeg-turbo.wasm') as unknown as TurboExports;
  const allocate = (size: number): number => {
    const at = turbo.malloc(size);
    if (at === 0) throw new WasmExit('out of memory');
    return at;
  };
  const channels = info.components === 4 ? 4 : 3;
  const input = allocate(bytes.length);
  new Uint8Array(turbo.memory.buffer, input, bytes.length).set(bytes);
  const handle = turbo.tjInitDecompress();
  const fields = allocate(16);
  if (
    handle === 0 ||
    turbo.tjDecompressHeader3(handle, input, bytes.length, fields, fields + 4, fields + 8, fields + 12) !== 0
  ) {
    throw new WasmExit('header');
  }
  const [width, height] = new Int32Array(turbo.memory.buffer, fields, 2);
  if (width !== info.width || height !== info.height) throw new WasmExit('two frame headers');
  const size = info.width * info.height * channels;
  const out = allocate(size);
  // A negative result without an exit is a warning (damaged entropy data): the picture is there, as in Pillow.
  const format = channels === 4 ? pixelFormatCmyk : pixelFormatRgb;
  turbo.tjDecompress2(handle, input, bytes.length, out, info.width, info.width * channels, info.height, format, 0);
  return new Uint8Array(turbo.memory.buffer, out, size);
}

/** Adobe stores CMYK inverted. */
function cmykToRgb(cmyk: Uint8Array): Uint8Array {
  const out = new Uint8Array((cmyk.length / 4) * 3);
  for (let i = 0, j = 0; i < cmyk.length; i += 4) {
    const white = cmyk[i + 3]!;
    for (let c = 0; c < 3; c++) {
      const product = (255 - cmyk[i + c]!) * white + 128;
      out[j++] = white - (((product >> 8) + product) >> 8);
    }
  }
  return out;
}

export function decodeJpeg(reader: ByteReader): DecodedPicture {
  const info = readInfo(reader);
  checkComplete(reader, info.at);
  let pixels: Uint8Array;
  try {
    pixels = decompress(reader.bytes, info);
  } catch {
    // The instance is thrown away with its memory: after an error exit of the library nothing in it is to be trusted.
    throw corrupt('JPEG', 'damaged data');
  }
  const data = info.components === 4 ? cmykToRgb(pixels) : pixels.slice();
  return { image: { width: info.width, height: info.height, channels: 3, data }, orientation: info.orientation };
}
