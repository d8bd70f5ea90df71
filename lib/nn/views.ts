import { OcelliError } from '../errors';
import { callerLine } from './caller';
import { divDim, mulDim, productOf, sameDim, shapeText, subDim, type Dim } from './dim';
import { Parameter } from './module';
import { tracer } from './tracer';
import type { Value } from './value';

export function axis(value: Value, dim: number, op: string): number {
  const i = dim < 0 ? value.rank + dim : dim;
  if (Number.isInteger(i) && i >= 0 && i < value.rank) return i;
  throw new OcelliError(
    'ERR_SHAPE',
    `Expected a dimension of ${shapeText(value.shape)} for ${op} at ${callerLine()} but received ${dim}`,
  );
}

/** Elements [start, end) of one dimension: a view. Negative numbers count from the end; end absent: to the end. */
export function slice(x: Value, dim: number, start: Dim, end?: Dim): Value {
  const t = tracer();
  t.own(x, 'slice');
  const d = axis(x, dim, 'slice');
  const size = x.shape[d]!;
  const from = fromEnd(start, size);
  const to = end === undefined ? size : fromEnd(end, size);
  const length = subDim(to, from);
  if (typeof from === 'number' && typeof length === 'number') {
    if (from < 0 || length < 0 || (typeof size === 'number' && from + length > size)) {
      throw new OcelliError(
        'ERR_SHAPE',
        `Expected a range inside ${String(size)} for slice of dimension ${d} at ${callerLine()} but received [${String(start)}, ${String(end ?? size)})`,
      );
    }
  }
  if (sameDim(from, 0) && sameDim(length, size)) return x;
  return t.newValue(
    x.shape.map((s, i) => (i === d ? length : s)),
    x.dtype,
    { kind: 'slice', of: x, dim: d, start: from },
  );
}

function fromEnd(i: Dim, size: Dim): Dim {
  return typeof i === 'number' && i < 0 ? subDim(size, -i) : i;
}

/** Cuts one dimension into pieces of these sizes, which must add up to it. */
export function split(x: Value, sizes: readonly number[], dim = -1): Value[] {
  const d = axis(x, dim, 'split');
  const total = sizes.reduce((a, b) => a + b, 0);
  if (!sameDim(x.shape[d]!, total)) {
    throw new OcelliError(
      'ERR_SHAPE',
      `Expected sizes that add up to ${String(x.shape[d])} for split of ${shapeText(x.shape)} at ${callerLine()} but received ${sizes.join(' + ')} = ${total}`,
    );
  }
  let start = 0;
  return sizes.map((size) => {
    const piece = slice(x, d, start, start + size);
    start += size;
    return piece;
  });
}

/** The same elements in another shape: a view. One size may be -1. */
export function reshape(from: Value | Parameter, shape: readonly Dim[]): Value {
  const t = tracer();
  const x = from instanceof Parameter ? t.weight([from], false, from.shape) : from;
  t.own(x, 'reshape');
  const open = shape.indexOf(-1);
  const result = [...shape];
  if (open >= 0) {
    const known = shape.filter((_, i) => i !== open);
    if (known.includes(-1)) throw reshapeError(x, shape, 'more than one size is -1');
    result[open] = quotient(x, shape, known);
  } else {
    const [a, b] = cancel(x.shape, shape);
    if (!sameDim(productOf(a), productOf(b))) throw reshapeError(x, shape, 'the numbers of elements differ');
  }
  if (result.length === x.rank && result.every((d, i) => sameDim(d, x.shape[i]!))) return x;
  return t.newValue(result, x.dtype, { kind: 'reshape', of: x });
}

/** Repeats dimensions of size 1 without copying. */
export function expand(x: Value, shape: readonly Dim[]): Value {
  const t = tracer();
  t.own(x, 'expand');
  if (shape.length !== x.rank || shape.some((d, i) => !sameDim(d, x.shape[i]!) && x.shape[i] !== 1)) {
    throw new OcelliError(
      'ERR_SHAPE',
      `Expected the shape ${shapeText(x.shape)} with larger sizes in place of 1 for expand at ${callerLine()} but received ${shapeText(shape)}`,
    );
  }
  if (shape.every((d, i) => sameDim(d, x.shape[i]!))) return x;
  return t.newValue(shape, x.dtype, { kind: 'expand', of: x });
}

/** Sizes that stand on both sides say nothing; leaving them out keeps products linear in the symbols. */
function cancel(a: readonly Dim[], b: readonly Dim[]): [Dim[], Dim[]] {
  const left: Dim[] = [];
  const right = [...b];
  for (const d of a) {
    const i = right.findIndex((e) => typeof e !== 'number' && sameDim(d, e));
    if (i >= 0) right.splice(i, 1);
    else left.push(d);
  }
  return [left, right];
}

function quotient(x: Value, shape: readonly Dim[], known: readonly Dim[]): Dim {
  const [a, b] = cancel(x.shape, known);
  if (b.some((d) => typeof d !== 'number')) {
    // N * 4 elements over [N * 2, -1]: the ratio of two forms that differ by a factor.
    throw reshapeError(x, shape, 'the open size would depend on a quotient of symbols');
  }
  const n = (b as number[]).reduce((p, q) => p * q, 1);
  if (n <= 0) throw reshapeError(x, shape, 'sizes must be positive');
  // Numbers are divided first, so that [N, 4, 6] over [.., 8] is N * 24 / 8 = 3 N, exactly.
  const fixed = a.filter((d): d is number => typeof d === 'number').reduce((p, q) => p * q, 1);
  const symbolic = a.filter((d) => typeof d !== 'number');
  const total = mulDim(productOf(symbolic), fixed);
  if (typeof total === 'number' && total % n !== 0) throw reshapeError(x, shape, `${total} is not a multiple of ${n}`);
  return divDim(total, n);
}

function reshapeError(x: Value, shape: readonly Dim[], why: string): OcelliError {
  return new OcelliError(
    'ERR_SHAPE',
    `Expected a shape with the elements of ${shapeText(x.shape)} for reshape at ${callerLine()} but received ${shapeText(shape)}: ${why}`,
  );
}
