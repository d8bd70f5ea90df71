/** What a file is, from its bytes alone: names and MIME types lie. Nothing here allocates by what a header says. */
import { OcelliError } from '../errors';
import { isBmp, readBmpHeader } from './bmp';
import { ByteReader, unsupported } from './bytes';
import { isGif, readGifHeader } from './gif';
import { isJpeg, readJpegHeader } from './jpeg';
import { checkDimensions, type ImageLimits } from './limits';
import { isPng, readPngHeader } from './png';
import { isTiff, readTiffHeader } from './tiff';
import type { RawImage } from './types';
import { isWebp, readWebpHeader } from './webp';

export type ImageFormat = 'PNG' | 'JPEG' | 'WebP' | 'GIF' | 'BMP' | 'TIFF';

export interface ImageHeader {
  format: ImageFormat;
  width: number;
  height: number;
  /** Frames or pages, where the format has them; only the first is decoded. */
  frames?: number;
}

export interface DecodedPicture {
  /** Without data where they were left in a raster. */
  image: RawImage;
  /** EXIF's, not yet applied. */
  orientation?: number;
}

const formats: readonly { is: (reader: ByteReader) => boolean; read: (reader: ByteReader) => ImageHeader }[] = [
  { is: isPng, read: readPngHeader },
  { is: isJpeg, read: readJpegHeader },
  { is: isWebp, read: readWebpHeader },
  { is: isGif, read: readGifHeader },
  { is: isBmp, read: readBmpHeader },
  { is: isTiff, read: readTiffHeader },
];

/** Names what is refused, where it is known. */
function describe(reader: ByteReader): string {
  if (reader.spells(4, 'ftypavi')) return 'an AVIF file';
  if (reader.spells(4, 'ftyphei') || reader.spells(4, 'ftypmif')) return 'a HEIF file';
  if (reader.spells(0, '\xff\x0a') || reader.spells(4, 'JXL ')) return 'a JPEG XL file';
  if (reader.spells(0, '\0\0\0\x0cjP  ') || reader.spells(0, '\xff\x4f\xff\x51')) return 'a JPEG 2000 file';
  if (reader.spells(0, '%PDF')) return 'a PDF file';
  if (reader.spells(0, 'PK\x03\x04')) return 'a ZIP archive';
  if (reader.u8(0) === 0x50 && /^P[1-7f]\s$/i.test(Buffer.from(reader.bytes.subarray(0, 3)).toString('latin1')))
    return 'a PNM file';
  const text = Buffer.from(reader.bytes.subarray(0, 256)).toString('latin1');
  if (/<svg[\s>]/i.test(text)) return 'an SVG file';
  return 'a file of unknown format';
}

/** Format and size of an encoded picture, checked against the limits. */
export function sniffImage(bytes: Uint8Array, limits: ImageLimits = {}): ImageHeader {
  if (bytes.byteLength === 0) throw new OcelliError('ERR_IMAGE_EMPTY', 'Expected a picture but received no bytes');
  const reader = new ByteReader(bytes, 'picture');
  const format = formats.find(({ is }) => is(reader));
  if (!format) throw unsupported(describe(reader));
  const header = format.read(reader);
  checkDimensions(header.format, header.width, header.height, limits);
  return header;
}
