/** Reading header fields of untrusted files: every read is checked, past the end is ERR_IMAGE_TRUNCATED. */
import { OcelliError } from '../errors';

export function truncated(format: string): OcelliError {
  return new OcelliError('ERR_IMAGE_TRUNCATED', `Expected a whole ${format} file but received one that ends early`);
}

export function corrupt(format: string, what: string): OcelliError {
  return new OcelliError('ERR_IMAGE_CORRUPT', `Expected a valid ${format} file but received ${what}`);
}

export function unsupported(what: string): OcelliError {
  return new OcelliError(
    'ERR_IMAGE_FORMAT',
    `Expected a PNG, JPEG, WebP, GIF, BMP or TIFF picture but received ${what}`,
    {
      hint: 'Convert the picture to PNG or JPEG.',
    },
  );
}

export class ByteReader {
  readonly length: number;
  private readonly view: DataView;

  constructor(
    readonly bytes: Uint8Array,
    private readonly format: string,
    public littleEndian = false,
  ) {
    this.length = bytes.byteLength;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  private check(at: number, size: number): void {
    if (at < 0 || at + size > this.length) throw truncated(this.format);
  }

  u8(at: number): number {
    this.check(at, 1);
    return this.view.getUint8(at);
  }

  u16(at: number): number {
    this.check(at, 2);
    return this.view.getUint16(at, this.littleEndian);
  }

  u24(at: number): number {
    this.check(at, 3);
    return this.littleEndian
      ? this.view.getUint16(at, true) | (this.view.getUint8(at + 2) << 16)
      : (this.view.getUint8(at) << 16) | this.view.getUint16(at + 1, false);
  }

  u32(at: number): number {
    this.check(at, 4);
    return this.view.getUint32(at, this.littleEndian);
  }

  i32(at: number): number {
    this.check(at, 4);
    return this.view.getInt32(at, this.littleEndian);
  }

  slice(at: number, size: number): Uint8Array {
    this.check(at, size);
    return this.bytes.subarray(at, at + size);
  }

  /** True where the bytes at `at` spell `text` (Latin-1). */
  spells(at: number, text: string): boolean {
    if (at < 0 || at + text.length > this.length) return false;
    for (let i = 0; i < text.length; i++) if (this.bytes[at + i] !== text.charCodeAt(i)) return false;
    return true;
  }
}
