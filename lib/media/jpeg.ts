/** JPEG by libjpeg-turbo: accurate integer IDCT and fancy upsampling give the reference's bytes. */
import type { ByteReader } from './bytes';
import { corrupt, truncated, unsupported } from './bytes';
import { decompressByHost, decompressByWasm } from './jpeg-turbo';
import { exifOrientation, isTurned, xmpOrientation } from './orientation';
import type { DecodedPicture, ImageHeader } from './sniff';

/** More scans than any encoder makes could hold the host's decoder, which cannot be stopped, for minutes; WebAssembly can be. */
const maxHostScans = 24;

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

/** How many scans there are. libjpeg fills missing data with gray; Pillow refuses it. The end marker tells a whole file from a cut one. */
function countScans(reader: ByteReader, at: number): number {
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
  return scans;
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

export function decodeJpeg(reader: ByteReader, raster?: number): DecodedPicture {
  const { width, height, components, orientation, at } = readInfo(reader);
  const scans = countScans(reader, at);
  const frame = { width, height, channels: components === 4 ? 4 : 3 } as const;
  // What is neither turned nor converted goes where it will be read.
  const place = frame.channels === 3 && !isTurned(orientation) ? raster : undefined;
  const pixels =
    (scans <= maxHostScans ? decompressByHost(reader.bytes, frame, place) : undefined) ??
    decompressByWasm(reader.bytes, frame);
  if (pixels === 'corrupt') throw corrupt('JPEG', 'damaged data');
  const data = frame.channels === 4 ? cmykToRgb(pixels) : pixels;
  return { image: { width, height, channels: 3, data }, orientation };
}
