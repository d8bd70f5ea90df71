/**
 * libjpeg-turbo twice: as machine code, where the host has installed a package that ships the library, and in WebAssembly. Both give the
 * same bytes for what an encoder made; the first takes a quarter of the time.
 */
import { join } from 'node:path';
import { loadNative } from '../native';
import { instantiate, WasmExit, type WasmMemory } from './wasm';

/** What the frame header says; 4 channels are CMYK, as it is stored. */
export interface JpegFrame {
  width: number;
  height: number;
  channels: 3 | 4;
}

const pixelFormatRgb = 0;
const pixelFormatCmyk = 11;

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

function runWasm(bytes: Uint8Array, { width, height, channels }: JpegFrame): Uint8Array {
  const turbo = instantiate('@cwasm/jpeg-turbo/jpeg-turbo.wasm') as unknown as TurboExports;
  const allocate = (size: number): number => {
    const at = turbo.malloc(size);
    if (at === 0) throw new WasmExit('out of memory');
    return at;
  };
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
  const [foundWidth, foundHeight] = new Int32Array(turbo.memory.buffer, fields, 2);
  if (foundWidth !== width || foundHeight !== height) throw new WasmExit('two frame headers');
  const size = width * height * channels;
  const out = allocate(size);
  // A negative result without an exit is a warning (damaged entropy data): the picture is there, as in Pillow.
  const format = channels === 4 ? pixelFormatCmyk : pixelFormatRgb;
  turbo.tjDecompress2(handle, input, bytes.length, out, width, width * channels, height, format, 0);
  return new Uint8Array(turbo.memory.buffer, out, size).slice();
}

export function decompressByWasm(bytes: Uint8Array, frame: JpegFrame): Uint8Array | 'corrupt' {
  try {
    return runWasm(bytes, frame);
  } catch {
    // The instance is thrown away with its memory: after an error exit of the library nothing in it is to be trusted.
    return 'corrupt';
  }
}

/** Where the package keeps its shared library, glibc's first; other platforms have none. */
function hostLibraries(): string[] {
  if (process.platform !== 'linux') return [];
  try {
    const folder = join(require.resolve('@julusian/jpeg-turbo/package.json'), '..', 'prebuilds');
    const platform = `jpeg-turbo-linux-${process.arch}`;
    return [platform, `${platform}-musl`].map((name) => join(folder, name, 'libturbojpeg.so.0'));
  } catch {
    return []; // not installed
  }
}

let libraries: string[] | undefined;

/** Most of what a large raster costs beside decoding is the system's handing out pages of 4 KiB (native/image/large_pages.h). */
const largePage = 2 ** 21;
const largePicture = 2 ** 20;

/**
 * Undefined where there is no such library.
 * @param raster takes the pixels: what is returned of them is empty
 */
export function decompressByHost(
  bytes: Uint8Array,
  frame: JpegFrame,
  raster?: number,
): Uint8Array | 'corrupt' | undefined {
  libraries ??= hostLibraries();
  const { width, height, channels } = frame;
  const size = width * height * channels;
  while (libraries.length > 0) {
    // Not cleared: every byte of the picture is written, and a raster that is not is thrown away. What lies before it is never touched.
    const room = raster ?? Buffer.allocUnsafeSlow(size + (size < largePicture ? 0 : largePage));
    const result = loadNative().decodeJpegWith(libraries[0]!, bytes, room, width, height, channels);
    if (result === 'corrupt') return result;
    if (result !== 'no library')
      return typeof room === 'number' ? new Uint8Array(0) : new Uint8Array(room.buffer, result, size);
    libraries.shift();
  }
  return undefined;
}
