import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { resizeImage, type ResizeFilter } from '../../dist/media';
import { preprocessImage } from '../../dist/media/native-image';
import type { RawPreprocessPlan } from '../../dist/media/preprocess';
import { loadNative } from '../../dist/native';
import { codeOf, digestOfSweep, fixtures, pattern, readJson, sha256 } from './pictures';

interface Case {
  input: [number, number];
  filter: ResizeFilter;
  size: [number, number];
  sha256: string;
  before13?: string;
}

// Hashes of Pillow 13's results (and of Pillow 12's, where they differ) on a picture that is a formula.
describe('resizeImage is Pillow byte for byte', () => {
  test.each(
    readJson<Case[]>(join(fixtures, 'resize.json')).map(
      (c) => [`${c.filter} ${c.input.join('x')} to ${c.size.join('x')}`, c] as const,
    ),
  )('%s', async (_, c) => {
    const image = pattern(...c.input);
    const resized = await resizeImage(image, c.size[1], c.size[0], c.filter);
    expect(sha256(resized.data)).toBe(c.sha256);
    const older = await resizeImage(image, c.size[1], c.size[0], c.filter, { order: 'before13' });
    expect(sha256(older.data)).toBe(c.before13 ?? c.sha256);
  });
});

test('channels are resized alike', async () => {
  const rgb = pattern(37, 51);
  const plane = (c: number) => rgb.data.filter((_, i) => i % 3 === c);
  const rgba = new Uint8Array(37 * 51 * 4);
  rgb.data.forEach((v, i) => (rgba[Math.floor(i / 3) * 4 + (i % 3)] = v));
  const want = (await resizeImage(rgb, 20, 70, 'lanczos')).data;
  const four = (await resizeImage({ ...rgb, channels: 4, data: rgba }, 20, 70, 'lanczos')).data;
  for (const c of [0, 1, 2] as const) {
    const one = (await resizeImage({ ...rgb, channels: 1, data: plane(c) }, 20, 70, 'lanczos')).data;
    expect([...one]).toEqual([...want.filter((_, i) => i % 3 === c)]);
    expect([...four.filter((_, i) => i % 4 === c)]).toEqual([...one]);
  }
});

// The best that this processor has is what the tests above are run with.
test.each(['baseline', 'avx2'])('every instruction set gives the same bytes: %s', async (isa) => {
  if (!loadNative().info().isas.includes(isa)) return;
  const shared = JSON.stringify(join(__dirname, 'pictures.js'));
  const script = `require(${shared}).digestOfSweep().then((digest) => process.stdout.write(digest))`;
  const other = execFileSync(process.execPath, ['-e', script], { encoding: 'utf8', env: { OCELLI_ISA: isa } });
  expect(other).toBe(await digestOfSweep());
});

test('bad arguments are coded errors', async () => {
  const image = pattern(4, 4);
  expect(await codeOf(resizeImage(image, 0, 4, 'box'))).toBe('ERR_IMAGE_SIZE');
  expect(await codeOf(resizeImage(image, 4, 1e9, 'box'))).toMatch(/^ERR_/);
  expect(await codeOf(resizeImage(image, 100_000, 100_000, 'box'))).toBe('ERR_IMAGE_TOO_LARGE');
  expect(await codeOf(resizeImage(image, 2.5, 4, 'box'))).toBe('ERR_INVALID_ARGUMENT');
  expect(await codeOf(resizeImage({ ...image, width: 5 }, 4, 4, 'box'))).toBe('ERR_IMAGE_SIZE');
  expect(await codeOf(resizeImage(image, 4, 4, 'cubic' as ResizeFilter))).toBe('ERR_INVALID_ARGUMENT');
});

describe('preprocessImage', () => {
  const image = pattern(64, 96);
  const plain = { rescaleFactor: 1 } as const;
  const run = async (plan: RawPreprocessPlan) => [...(await preprocessImage(image, plan))];

  test('a crop after a resize equals the resize, cropped', async () => {
    const whole = (await resizeImage(image, 50, 40, 'bicubic')).data;
    const got = await run({
      ...plain,
      steps: [
        { op: 'resize', width: 50, height: 40, filter: 'bicubic' },
        { op: 'crop', left: -3, top: 5, width: 60, height: 30 },
      ],
    });
    const want: number[] = [];
    for (let c = 0; c < 3; c++) {
      for (let y = 5; y < 35; y++)
        for (let x = -3; x < 57; x++) want.push(x < 0 || x >= 50 ? 0 : whole[(y * 50 + x) * 3 + c]!);
    }
    expect(got).toEqual(want);
  });

  test('pads with a colour, then cuts tiles row by row', async () => {
    const got = await run({
      ...plain,
      steps: [{ op: 'pad', width: 96, height: 96, left: 0, top: 16, fill: [1, 2, 3] }],
      tiles: { width: 48, height: 32, cols: 2, rows: 3 },
    });
    const want: number[] = [];
    for (let t = 0; t < 6; t++) {
      for (let c = 0; c < 3; c++) {
        for (let y = 0; y < 32; y++) {
          for (let x = 0; x < 48; x++) {
            const sy = Math.floor(t / 2) * 32 + y - 16;
            const sx = (t % 2) * 48 + x;
            want.push(sy < 0 || sy >= 64 ? c + 1 : image.data[(sy * 96 + sx) * 3 + c]!);
          }
        }
      }
    }
    expect(got).toEqual(want);
  });

  test('tiles in squares, one after the other, each channel as often as is said', async () => {
    const tile = { width: 16, height: 8 };
    const got = await run({ ...plain, steps: [], tiles: { ...tile, cols: 6, rows: 8, square: 2, repeat: 3 } });
    const want: number[] = [];
    for (let square = 0; square < 12; square++) {
      for (let inside = 0; inside < 4; inside++) {
        const row = 2 * Math.floor(square / 3) + Math.floor(inside / 2);
        const col = 2 * (square % 3) + (inside % 2);
        for (let c = 0; c < 3; c++)
          for (let again = 0; again < 3; again++)
            for (let y = 0; y < 8; y++)
              for (let x = 0; x < 16; x++) want.push(image.data[((row * 8 + y) * 96 + col * 16 + x) * 3 + c]!);
      }
    }
    expect(got).toEqual(want);
  });

  test('several plans over one picture are what each makes alone, one after the other', async () => {
    const plans: RawPreprocessPlan[] = [
      { ...plain, steps: [{ op: 'resize', width: 7, height: 5, filter: 'bilinear' }] },
      { ...plain, steps: [], tiles: { width: 48, height: 32, cols: 2, rows: 2 } },
      { ...plain, rescaleFactor: 2, steps: [{ op: 'crop', left: 1, top: 2, width: 3, height: 4 }] },
    ];
    const alone = await Promise.all(plans.map(run));
    expect([...(await preprocessImage(image, ...plans))]).toEqual(alone.flat());
    expect(await codeOf(preprocessImage(image))).toBe('ERR_INVALID_ARGUMENT');
  });

  test('rescales in double and normalises in float32', async () => {
    const mean = [0.48145466, 0.4578275, 0.40821073] as const;
    const std = [0.26862954, 0.26130258, 0.27577711] as const;
    const got = await run({ steps: [], rescaleFactor: 1 / 255, mean, std });
    const f = Math.fround;
    const want = [0, 1, 2].flatMap((c) =>
      Array.from({ length: 64 * 96 }, (_, i) => f(f(f(image.data[i * 3 + c]! * (1 / 255)) - f(mean[c]!)) / f(std[c]!))),
    );
    expect(got).toEqual(want);
  });

  test('refuses tiles that do not fill the picture, and pictures beyond reason', async () => {
    expect(await codeOf(run({ ...plain, steps: [], tiles: { width: 10, height: 10, cols: 1, rows: 1 } }))).toBe(
      'ERR_IMAGE_SIZE',
    );
    for (const odd of [{ square: 5 }, { square: 0 }, { repeat: 0 }, { repeat: 1000 }]) {
      const tiles = { width: 16, height: 8, cols: 6, rows: 8, ...odd };
      expect(await codeOf(run({ ...plain, steps: [], tiles }))).toBe('ERR_IMAGE_SIZE');
    }
    expect(
      await codeOf(
        run({ ...plain, steps: [{ op: 'pad', width: 100_000, height: 100_000, left: 0, top: 0, fill: [0, 0, 0] }] }),
      ),
    ).toBe('ERR_IMAGE_TOO_LARGE');
  });

  test('works in worker threads that are terminated in the middle', async () => {
    const code = `const { resizeImage } = require(${JSON.stringify(require.resolve('../../dist/media'))});
      const image = { width: 1500, height: 1500, channels: 3, data: new Uint8Array(1500 * 1500 * 3) };
      for (let i = 0; i < 8; i++) void resizeImage(image, 2000, 2000, 'lanczos').catch(() => {});`;
    for (let round = 0; round < 6; round++) {
      const worker = new Worker(code, { eval: true });
      await new Promise((resolve) => setTimeout(resolve, 30 * round));
      await worker.terminate();
    }
    expect((await resizeImage(image, 3, 2, 'box')).data.length).toBe(18);
  });
});
