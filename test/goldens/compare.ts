/** Errors by the measures that bounds are stated in. */

/** One comparison: it holds while error <= bound. */
export interface Check {
  what: string;
  error: number;
  bound: number;
}

export const failed = (check: Check): boolean => !(check.error <= check.bound);

/** How near a check is to its bound; above 1 it fails. */
export const strain = ({ error, bound }: Check): number =>
  error === 0 ? 0 : bound === 0 || Number.isNaN(error) ? Infinity : error / bound;

export const worst = (checks: readonly Check[]): Check | undefined =>
  checks.reduce<Check | undefined>((a, b) => (a && !(strain(b) > strain(a)) ? a : b), undefined);

/** How many elements differ; other lengths count whole. */
export function differing(a: ArrayLike<number | bigint>, b: ArrayLike<number | bigint>): number {
  let count = Math.abs(a.length - b.length);
  for (let i = 0; i < Math.min(a.length, b.length); i++) if (!Object.is(Number(a[i]), Number(b[i]))) count++;
  return count;
}

/**
 * The larger of: the largest difference over the largest magnitude of the tensor; and over all rows of `width` elements, the L2 norm of
 * the difference over the row's own. The first sees an outlier, the second a row that is small among large ones.
 */
export function relativeError(ours: ArrayLike<number>, golden: ArrayLike<number>, width: number): number {
  if (ours.length !== golden.length) return Infinity;
  let [largest, magnitude, rows] = [0, 0, 0];
  for (let start = 0; start < golden.length; start += width) {
    let [difference, norm] = [0, 0];
    for (let i = start; i < start + width; i++) {
      const d = ours[i]! - golden[i]!;
      // A NaN would pass through every comparison below.
      if (!Number.isFinite(d)) return Infinity;
      largest = Math.max(largest, Math.abs(d));
      magnitude = Math.max(magnitude, Math.abs(golden[i]!));
      difference += d * d;
      norm += golden[i]! * golden[i]!;
    }
    if (difference > 0) rows = Math.max(rows, Math.sqrt(difference / norm));
  }
  return largest === 0 ? 0 : Math.max(largest / magnitude, rows);
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i]! - b[i]!);
    if (!(d <= largest)) largest = Number.isNaN(d) ? Infinity : d;
  }
  return largest;
}

export function argmax(row: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  return best;
}

/** ln of the sum of exponentials, in float64. */
export function logSumExp(row: ArrayLike<number>): number {
  const top = row[argmax(row)]!;
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += Math.exp(row[i]! - top);
  return top + Math.log(sum);
}
