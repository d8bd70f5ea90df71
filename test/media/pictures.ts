/** What the tests of media share: fixtures, hashes, a picture that is a formula. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { resizeImage, type RawImage } from '../../dist/media';

/** The repository's root, from the compiled test's place. */
export const root = join(__dirname, '..', '..', '..');
export const fixtures = join(root, 'test', 'fixtures');
/** Data that lie beside the repository, for `npm run test:shared`. */
export const shared = process.env.OCELLI_SHARED ?? join(root, '..', 'shared');

export const sha256 = (data: Uint8Array | Uint8ClampedArray): string => createHash('sha256').update(data).digest('hex');
export const readJson = <T>(...path: string[]): T => JSON.parse(readFileSync(join(...path), 'utf8')) as T;

/** v(y, x, c) = (((x*(c+3)) XOR (y*(c+5))) + ((x*x + y*y) >> 7) + 37*c) AND 255 */
export function pattern(height: number, width: number): RawImage {
  const data = new Uint8Array(height * width * 3);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) data[i++] = ((x * (c + 3)) ^ (y * (c + 5))) + ((x * x + y * y) >> 7) + 37 * c;
    }
  }
  return { width, height, channels: 3, data };
}

/** The code that a promise rejects with, or undefined. */
export async function codeOf(promise: Promise<unknown>): Promise<string | undefined> {
  try {
    await promise;
    return undefined;
  } catch (e) {
    return (e as { code?: string }).code ?? (e as Error).name;
  }
}

const sweep = [
  [768, 1024, 336, 448],
  [600, 30, 20, 17],
  [31, 700, 13, 11],
  [5, 3, 1, 1],
  [66, 67, 130, 65],
  [9, 401, 9, 23],
  [401, 9, 23, 9],
] as const;
/**
 * SHA-256 of pictures resized by every filter and order: windows of one block of taps and several, lines too short for one, tails of
 * every kind.
 */
export async function digestOfSweep(): Promise<string> {
  const all: Uint8Array[] = [];
  for (const [height, width, outHeight, outWidth] of sweep)
    for (const filter of ['box', 'bilinear', 'hamming', 'bicubic', 'lanczos'] as const)
      for (const order of ['pillow13', 'before13'] as const)
        all.push(
          (await resizeImage(pattern(height, width), outWidth, outHeight, filter, { order })).data as Uint8Array,
        );
  return sha256(Buffer.concat(all));
}
