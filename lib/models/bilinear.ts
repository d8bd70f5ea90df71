/** Rows of a map read between its rows: tables of positions and maps of features in other sizes. Which rows, and how much of each, follows from sizes. */
import { add, concat, expand, gatherRows, mul, reshape, slice, type Operand, type Value } from '../nn';

const f32 = Math.fround;

/** A place on one side of a map: between `low` and `high`, `part` of the way. */
export interface Place {
  low: number;
  high: number;
  part: number;
}

/** `count` places from the first of `size` to the last, evenly; float32 as torch.linspace has it, which counts from the nearer end. */
export function alignedPlaces(size: number, count: number): Place[] {
  const step = count > 1 ? f32((size - 1) / (count - 1)) : 0;
  return Array.from({ length: count }, (_, i) =>
    place(i < count / 2 ? f32(step * i) : f32(size - 1 - f32(step * (count - 1 - i))), size),
  );
}

/** The middles of `count` equal parts of a side of `size`; nothing lies before the first middle of its own parts (torch, align_corners false). */
export function centredPlaces(size: number, count: number): Place[] {
  const scale = f32(size / count);
  return Array.from({ length: count }, (_, i) => place(Math.max(0, f32(f32(scale * f32(i + 0.5)) - 0.5)), size));
}

function place(at: number, size: number): Place {
  const low = Math.min(Math.floor(at), size - 1);
  return { low, high: Math.min(low + 1, size - 1), part: f32(at - low) };
}

/** Four rows of a table for each row of the result. */
export class Corners {
  /** [4, rows]; -1: nothing. */
  readonly index: Int32Array;
  /** [4, rows]. */
  readonly weight: Float32Array;

  constructor(readonly rows: number) {
    this.index = new Int32Array(4 * rows).fill(-1);
    this.weight = new Float32Array(4 * rows);
  }

  /** Row `at` is the table's row `from`. */
  copy(at: number, from: number): void {
    this.index[at] = from;
    this.weight[at] = 1;
  }

  /** Row `at` lies among four of the map's places; `rowOf` says which row of the table a place is. */
  blend(at: number, y: Place, x: Place, rowOf: (y: number, x: number) => number): void {
    const corners = [
      [y.low, x.low, f32(1 - y.part) * f32(1 - x.part)],
      [y.low, x.high, f32(1 - y.part) * x.part],
      [y.high, x.low, y.part * f32(1 - x.part)],
      [y.high, x.high, y.part * x.part],
    ] as const;
    for (const [k, [row, col, weight]] of corners.entries()) {
      this.index[k * this.rows + at] = rowOf(row, col);
      this.weight[k * this.rows + at] = weight;
    }
  }
}

/** Sums of weight [4, M] times the rows of a table [R, D] by index [4, M]. */
export function blendCorners(table: Operand, index: Value, weight: Value): Value {
  const rows = index.shape[1]!;
  const corner = (k: number): Value => {
    const found = gatherRows(table, reshape(slice(index, 0, k, k + 1), [rows]));
    const one = reshape(slice(weight, 0, k, k + 1), [rows, 1]);
    // mul takes rows whose elements lie side by side: concat writes the weight as often as a row is wide.
    return mul(found, concat([expand(one, [rows, (found.shape[1] as number) - 1]), one], 1));
  };
  return [1, 2, 3].reduce((sum, k) => add(sum, corner(k)), corner(0));
}
