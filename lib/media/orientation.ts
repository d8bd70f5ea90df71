/** EXIF orientation: found as Pillow finds it, applied to interleaved pixels. */
import type { RawImage } from './types';

const orientationTag = 0x0112;

/** The orientation that a TIFF-structured EXIF block states, or undefined. Never throws: metadata is no reason to refuse. */
export function exifOrientation(block: Uint8Array): number | undefined {
  const start =
    block.length > 6 && Buffer.from(block.buffer, block.byteOffset, 6).toString('latin1') === 'Exif\0\0' ? 6 : 0;
  const bytes = block.subarray(start);
  if (bytes.length < 8) return undefined;
  const littleEndian = bytes[0] === 0x49 && bytes[1] === 0x49;
  if (!littleEndian && !(bytes[0] === 0x4d && bytes[1] === 0x4d)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ifd = view.getUint32(4, littleEndian);
  if (ifd + 2 > bytes.length) return undefined;
  const count = view.getUint16(ifd, littleEndian);
  for (let i = 0; i < count; i++) {
    const entry = ifd + 2 + i * 12;
    if (entry + 12 > bytes.length) return undefined;
    if (view.getUint16(entry, littleEndian) !== orientationTag) continue;
    const type = view.getUint16(entry + 2, littleEndian);
    if (view.getUint32(entry + 4, littleEndian) !== 1) return undefined;
    if (type === 3) return view.getUint16(entry + 8, littleEndian);
    if (type === 4) return view.getUint32(entry + 8, littleEndian);
    if (type === 1) return view.getUint8(entry + 8);
    return undefined;
  }
  return undefined;
}

/** The orientation of an XMP packet: counts only where EXIF has none. */
export function xmpOrientation(packet: Uint8Array): number | undefined {
  const match = /tiff:Orientation(?:="|>)([0-9])/.exec(
    Buffer.from(packet.buffer, packet.byteOffset, packet.byteLength).toString('latin1'),
  );
  return match ? Number(match[1]) : undefined;
}

export function isTurned(orientation: number | undefined): orientation is number {
  return orientation !== undefined && orientation >= 2 && orientation <= 8;
}

/** Turns a picture upright. 1, unknown and invalid values leave it as it is. */
export function orient(image: RawImage, orientation: number | undefined): RawImage {
  if (!isTurned(orientation)) return image;
  const { width, height, channels, data } = image;
  const turned = orientation >= 5;
  const outWidth = turned ? height : width;
  const outHeight = turned ? width : height;
  // Where output (0, 0) lies in the source, and how far one step right and one step down move there.
  const right = channels;
  const down = width * channels;
  const lastX = (width - 1) * right;
  const lastY = (height - 1) * down;
  const [origin, stepX, stepY] = (
    {
      2: [lastX, -right, down],
      3: [lastX + lastY, -right, -down],
      4: [lastY, right, -down],
      5: [0, down, right],
      6: [lastY, -down, right],
      7: [lastX + lastY, -down, -right],
      8: [lastX, down, -right],
    } as Record<number, [number, number, number]>
  )[orientation]!;
  const out = new Uint8Array(data.length);
  let at = 0;
  for (let y = 0; y < outHeight; y++) {
    let from = origin + y * stepY;
    for (let x = 0; x < outWidth; x++, from += stepX) {
      for (let c = 0; c < channels; c++) out[at++] = data[from + c]!;
    }
  }
  return { width: outWidth, height: outHeight, channels, data: out };
}
