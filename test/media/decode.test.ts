import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { deflateSync } from 'node:zlib';
import { decodeImage, sniffImage } from '../../dist/media';
import { decodeImage as decodeInto } from '../../dist/media/decode';
import { decompressByHost, decompressByWasm, type JpegFrame } from '../../dist/media/jpeg-turbo';
import { crc32 } from '../../dist/media/png';
import { loadNative } from '../../dist/native';
import { codeOf, fixtures, readJson, sha256 } from './pictures';

const native = loadNative();
const images = join(fixtures, 'images');
const bombs = join(images, 'bombs');

interface Expected {
  size?: [number, number];
  sha256?: string;
  refuse?: string;
}

// Expected bytes are Pillow's: Image.open(), exif_transpose, convert("RGB"); 16-bit gray keeps its high byte.
describe('decodeImage gives the reference bytes', () => {
  test.each(Object.entries(readJson<Record<string, Expected>>(images, 'decoded.json')))(
    '%s',
    async (name, expected) => {
      const path = join(images, name);
      // As requests have it, too: with pixels in native memory.
      for (const raster of [undefined, native.newRaster()]) {
        if (expected.refuse) {
          expect(await codeOf(decodeInto(path, {}, raster))).toBe(expected.refuse);
          continue;
        }
        const image = await decodeInto(path, {}, raster);
        expect([image.width, image.height, image.channels]).toEqual([...expected.size!, 3]);
        expect(sha256(raster ? native.rasterBytes(raster)! : image.data)).toBe(expected.sha256);
      }
    },
  );
});

describe('hostile and mislabelled files', () => {
  const files = readJson<Record<string, { must: 'refuse' | 'decode' | 'either'; sha256?: string }>>(
    bombs,
    'manifest.json',
  );
  test.each(Object.entries(files))('%s', async (name, { must, sha256: hash }) => {
    const code = await codeOf(
      decodeImage(join(bombs, name)).then((image) => {
        if (hash) expect(sha256(image.data)).toBe(hash);
      }),
    );
    if (must === 'refuse') expect(code).toMatch(/^ERR_IMAGE_/);
    else if (must === 'decode') expect(code).toBeUndefined();
    else expect(code ?? 'ERR_IMAGE_').toMatch(/^ERR_IMAGE_/);
  });

  test('are refused before a raster is allocated', () => {
    const before = process.memoryUsage();
    for (const name of Object.keys(files)) {
      try {
        sniffImage(readFileSync(join(bombs, name)));
      } catch {
        // The codes are the tests' above.
      }
    }
    const after = process.memoryUsage();
    expect(after.arrayBuffers + after.external - before.arrayBuffers - before.external).toBeLessThan(16 << 20);
  });
});

describe('sniffImage', () => {
  test('reads format, size and frames from the header', () => {
    const header = (name: string) => sniffImage(readFileSync(join(images, name)));
    expect(header('gif_animated.gif')).toEqual({ format: 'GIF', width: 40, height: 30, frames: 3 });
    expect(header('tiff_two_pages.tif')).toEqual({ format: 'TIFF', width: 30, height: 20, frames: 2 });
    expect(header('webp_animated.webp')).toEqual({ format: 'WebP', width: 40, height: 30, frames: 3 });
    expect(header('jpeg_420_15x33.jpg')).toEqual({ format: 'JPEG', width: 15, height: 33 });
  });

  test('keeps to the limits it is given', async () => {
    const path = join(images, 'png_rgb.png');
    expect(await codeOf(decodeImage(path, { maxPixels: 53 * 41 - 1 }))).toBe('ERR_IMAGE_TOO_LARGE');
    expect(await codeOf(decodeImage(path, { maxSide: 52 }))).toBe('ERR_IMAGE_TOO_LARGE');
    expect(await codeOf(decodeImage(path, { maxPixels: 53 * 41, maxSide: 53 }))).toBeUndefined();
  });
});

describe('damaged files', () => {
  // Any answer will do but a crash, a hang, or an error without a code.
  test.each([
    'png_interlaced_palette_trns.png',
    'jpeg_progressive.jpg',
    'webp_lossy_alpha.webp',
    'gif_interlaced.gif',
    'bmp_rle8.bmp',
    'tiff_lzw.tif',
    'tiff_packbits.tif',
  ])('%s, bytes changed at random', async (name) => {
    const original = readFileSync(join(images, name));
    let seed = 12345;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    for (let round = 0; round < 60; round++) {
      const bytes = new Uint8Array(original);
      for (let i = 0; i <= random(8); i++) bytes[random(round % 2 ? 64 : bytes.length)] = random(256);
      const cut = round % 5 === 0 ? bytes.subarray(0, random(bytes.length)) : bytes;
      expect((await codeOf(decodeImage(cut, { maxPixels: 1_000_000 }))) ?? 'ERR_IMAGE_').toMatch(/^ERR_IMAGE_/);
    }
  });
});

/** A black square of 1 bit per pixel: few bytes, much to do. */
function blankPng(side: number): Buffer {
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
    const ends = Buffer.alloc(8);
    ends.writeUInt32BE(data.length, 0);
    ends.writeUInt32BE(crc32(body), 4);
    return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)]);
  };
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  const pixels = deflateSync(Buffer.alloc(side * (Math.ceil(side / 8) + 1)));
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    chunk('IDAT', pixels),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

describe('the decode threads', () => {
  const png = readFileSync(join(images, 'png_rgb.png'));

  test('leave the event loop free', async () => {
    const jpeg = readFileSync(join(images, 'jpeg_420_157x119.jpg'));
    await decodeImage(jpeg);
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    await Promise.all(Array.from({ length: 200 }, () => decodeImage(jpeg)));
    delay.disable();
    expect(delay.percentile(99) / 1e6).toBeLessThan(50);
  });

  test('leave the input as it was', async () => {
    const bytes = new Uint8Array(png);
    await decodeImage(bytes);
    expect(bytes).toEqual(new Uint8Array(png));
  });

  test('take a SharedArrayBuffer view and part of a buffer', async () => {
    const bytes = new Uint8Array(new SharedArrayBuffer(png.length + 10), 10);
    bytes.set(png);
    expect((await decodeImage(bytes)).width).toBe(53);
  });

  test('give up on a picture that takes too long, and decode the next', async () => {
    expect(await codeOf(decodeImage(blankPng(5000), { timeout: 10 }))).toBe('ERR_IMAGE_TIMEOUT');
    expect((await decodeImage(png)).width).toBe(53);
  });

  test('reject with the reason of an aborted signal', async () => {
    const reason = new Error('enough');
    await expect(decodeImage(png, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const pictures = Array.from({ length: 10 }, () =>
      decodeImage(png, { signal: controller.signal }).catch((e: unknown) => e),
    );
    await new Promise(setImmediate);
    controller.abort(reason);
    const answers = await Promise.all(pictures);
    expect(answers.filter((answer) => answer === reason).length).toBeGreaterThan(0);
    expect((await decodeImage(png)).width).toBe(53);
  });
});

describe('pixels', () => {
  test('with alpha go on white, gray is repeated', async () => {
    const data = new Uint8Array([10, 20, 30, 255, 10, 20, 30, 0, 100, 200, 0, 128]);
    expect([...(await decodeImage({ width: 3, height: 1, channels: 4, data })).data]).toEqual([
      10, 20, 30, 255, 255, 255, 177, 227, 127,
    ]);
    expect([...(await decodeImage({ width: 2, height: 1, channels: 1, data: new Uint8Array([7, 8]) })).data]).toEqual([
      7, 7, 7, 8, 8, 8,
    ]);
  });

  test('of the wrong number are refused', async () => {
    expect(await codeOf(decodeImage({ width: 2, height: 2, channels: 3, data: new Uint8Array(11) }))).toBe(
      'ERR_IMAGE_SIZE',
    );
    expect(await codeOf(decodeImage({ width: 0, height: 2, channels: 3, data: new Uint8Array(0) }))).toBe(
      'ERR_IMAGE_SIZE',
    );
  });
});

// The host's library and the one in WebAssembly must agree, or a picture's features would depend on what is installed.
describe('both builds of libjpeg-turbo', () => {
  const decode = (bytes: Uint8Array, frame: JpegFrame) => {
    const host = decompressByHost(bytes, frame);
    if (!host) throw new Error('Expected the shared library of @julusian/jpeg-turbo to load on Linux');
    return [host, decompressByWasm(bytes, frame)].map((pixels) => (pixels === 'corrupt' ? pixels : sha256(pixels)));
  };
  const frameOf = (bytes: Uint8Array, channels: 3 | 4 = 3): JpegFrame => ({ ...sniffImage(bytes), channels });

  test.each([
    ['jpeg_420_157x119.jpg', 3],
    ['jpeg_420_15x33.jpg', 3],
    ['jpeg_cmyk_adobe.jpg', 4],
    ['jpeg_gray.jpg', 3],
    ['jpeg_progressive.jpg', 3],
    ['exif_6.jpg', 3],
  ] as const)('%s', (name, channels) => {
    if (process.platform !== 'linux') return;
    const bytes = readFileSync(join(images, name));
    const [host, wasm] = decode(bytes, frameOf(bytes, channels));
    expect(host).toMatch(/^[0-9a-f]{64}$/);
    expect(host).toBe(wasm);
  });

  // Not compared: coefficients that no encoder makes overflow the vectors of one and not the scalars of the other.
  test('damaged data are refused, or become a picture, by the host’s', () => {
    if (process.platform !== 'linux') return;
    const original = readFileSync(join(images, 'jpeg_progressive.jpg'));
    const frame = frameOf(original);
    let seed = 7;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    const sizes = new Set<unknown>();
    for (let round = 0; round < 300; round++) {
      const bytes = new Uint8Array(original);
      for (let i = 0; i <= random(6); i++) bytes[random(bytes.length)] = random(256);
      const pixels = decompressByHost(bytes, frame);
      sizes.add(pixels === 'corrupt' ? pixels : pixels?.length);
    }
    expect(sizes).toEqual(new Set([frame.width * frame.height * 3, 'corrupt']));
  });

  test('a file that says another size than its header did is refused', () => {
    if (process.platform !== 'linux') return;
    const bytes = readFileSync(join(images, 'jpeg_gray.jpg'));
    const frame = frameOf(bytes);
    expect(decode(bytes, { ...frame, width: frame.width - 1 })).toEqual(['corrupt', 'corrupt']);
  });
});
