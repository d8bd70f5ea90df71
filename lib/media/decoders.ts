/** The one place that chooses a decoder. Runs in the decode worker: it may take long and may be terminated. */
import { decodeBmp } from './bmp';
import { ByteReader } from './bytes';
import { decodeGif } from './gif';
import { decodeJpeg } from './jpeg';
import type { ImageLimits } from './limits';
import { orient } from './orientation';
import { decodePng } from './png';
import { sniffImage, type DecodedPicture, type ImageFormat } from './sniff';
import { decodeTiff } from './tiff';
import type { RawImage } from './types';
import { decodeWebp } from './webp';

const decoders: Record<ImageFormat, (reader: ByteReader, raster?: number) => DecodedPicture> = {
  PNG: decodePng,
  JPEG: decodeJpeg,
  WebP: decodeWebp,
  GIF: decodeGif,
  BMP: decodeBmp,
  TIFF: decodeTiff,
};

/**
 * RGB, turned upright, alpha dropped. The header is judged before a raster is allocated.
 * @param raster may take the pixels: `data` are none then
 */
export function decodeBytes(bytes: Uint8Array, limits: ImageLimits = {}, raster?: number): RawImage {
  const { format } = sniffImage(bytes, limits);
  const { image, orientation } = decoders[format](new ByteReader(bytes, format), raster);
  return orient(image, orientation);
}
