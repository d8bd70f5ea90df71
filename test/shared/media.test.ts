import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { decodeImage, resizeImage, type RawImage, type ResizeFilter } from '../../dist/media';
import { codeOf, pattern, readJson, root, sha256, shared } from '../media/pictures';

const golden = join(shared, 'golden');
const images = join(golden, 'images');

interface Picture {
  size: [number, number];
  sha256: string;
}

interface Entry {
  rgb?: Picture;
  exif_transposed?: Picture | 'same as rgb';
  high_byte?: Picture;
  policy?: 'refuse' | 'decode';
  format?: string;
}

describe('every picture of the golden set', () => {
  const entries = Object.entries(readJson<{ images: Record<string, Entry> }>(images, 'decoded.json').images);
  test.each(entries)('%s', async (name, entry) => {
    const path = join(images, name);
    if (entry.policy === 'refuse') return expect(await codeOf(decodeImage(path))).toMatch(/^ERR_IMAGE_/);
    if (entry.format === 'AVIF' || entry.format === 'PPM')
      return expect(await codeOf(decodeImage(path))).toBe('ERR_IMAGE_FORMAT');
    const turned = entry.exif_transposed === 'same as rgb' ? undefined : entry.exif_transposed;
    const expected = entry.high_byte ?? turned ?? entry.rgb!;
    const image = await decodeImage(path);
    expect([image.width, image.height]).toEqual(expected.size);
    expect(sha256(image.data)).toBe(expected.sha256);
  });
});

describe('bombs', () => {
  const files = readJson<{ files: Record<string, { must: string; rgb?: Picture }> }>(
    images,
    'bombs',
    'manifest.json',
  ).files;
  test.each(Object.entries(files))('%s', async (name, { must, rgb }) => {
    const decoded = decodeImage(join(images, 'bombs', name)).then((image) => {
      if (rgb) expect(sha256(image.data)).toBe(rgb.sha256);
    });
    const code = await codeOf(decoded);
    if (must === 'refuse') expect(code).toMatch(/^ERR_IMAGE_/);
    else if (must === 'decode') expect(code).toBeUndefined();
    else expect(code ?? 'ERR_IMAGE_').toMatch(/^ERR_IMAGE_/);
  });

  test('what must be refused costs no memory', () => {
    const names = Object.keys(files).filter((name) => files[name]!.must === 'refuse');
    // A process of its own, so that the peak is that of these files alone; its first picture warms the decoders up.
    const script = `const { readFileSync } = require('node:fs');
      const { decodeBytes } = require(${JSON.stringify(join(root, 'dist', 'media', 'decoders.js'))});
      const peak = () => Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
      decodeBytes(readFileSync(${JSON.stringify(join(images, 'jpeg_420_8x8.jpg'))}));
      const before = peak();
      for (const path of ${JSON.stringify(names.map((name) => join(images, 'bombs', name)))}) {
        try { decodeBytes(readFileSync(path)); } catch {}
      }
      console.log(peak() - before);`;
    const grown = Number(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }));
    expect(grown).toBeLessThan(16 * 1024);
  });
});

describe('every resize of the golden set', () => {
  interface Case {
    input: { pattern?: [number, number]; file?: string };
    filter: ResizeFilter;
    size: [number, number];
    sha256: string;
    before_13?: string;
  }
  const { cases, inputs } = readJson<{ cases: Case[]; inputs: Record<string, string> }>(
    golden,
    'preprocess',
    'resize.json',
  );
  const sources = new Map<string, Promise<RawImage>>();
  const source = ({ pattern: size, file }: Case['input']): Promise<RawImage> => {
    const key = file ?? size!.join('x');
    if (!sources.has(key))
      sources.set(key, file ? decodeImage(join(images, file)) : Promise.resolve(pattern(...size!)));
    return sources.get(key)!;
  };

  test('from the right pictures', async () => {
    for (const [key, hash] of Object.entries(inputs))
      expect(sha256((await source(JSON.parse(key) as Case['input'])).data)).toBe(hash);
  });

  test.each(['nearest', 'box', 'bilinear', 'hamming', 'bicubic', 'lanczos'] as const)('%s', async (filter) => {
    for (const c of cases.filter((candidate) => candidate.filter === filter)) {
      const image = await source(c.input);
      const [height, width] = c.size;
      expect([c, sha256((await resizeImage(image, width, height, filter)).data)]).toEqual([c, c.sha256]);
      expect([c, sha256((await resizeImage(image, width, height, filter, { order: 'before13' })).data)]).toEqual([
        c,
        c.before_13 ?? c.sha256,
      ]);
    }
  });
});
