/** What the tests of media share: fixtures, hashes, a picture that is a formula. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RawImage } from '../../dist/media';

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
