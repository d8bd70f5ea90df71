/** Where each stored tensor of a case has its counterpart: a tap, an input, an output. */
import type { NativeTensor } from '../../dist/native';
import { differing, relativeError } from './compare';
import type { GoldenTensor } from './folder';
import type { EncodedItem } from './model';

type Taps = Readonly<Record<string, NativeTensor>>;

const block = /^((?:.*\.)?(?:layers|blocks))\.(\d+)$/;

/** Taps of the stack's blocks, what enters the first, and the norm behind the last. */
function stack(taps: Taps): { prefix: string; list: string } {
  const list = Object.keys(taps).map((t) => block.exec(t)?.[1]);
  const found = list.find((l) => l !== undefined);
  if (found === undefined)
    throw new Error(`Expected blocks among the taps but received ${Object.keys(taps).join(' ')}`);
  return { prefix: found.replace(/(layers|blocks)$/, ''), list: found };
}

/** hidden.0 enters the first block of the text model, hidden.i leaves block i - 1, hidden.final leaves the last norm. */
export function hiddenState(taps: Taps, which: string): NativeTensor | undefined {
  const { prefix, list } = stack(taps);
  if (which === 'final') return taps[`${prefix}norm`];
  if (which === '0') return taps.inputs_embeds ?? taps[`${prefix}embed_tokens`];
  return taps[`${list}.${Number(which) - 1}`];
}

/** vision_hidden.i of all items, one after the other; 0 enters the first block. */
export function visionState(items: readonly EncodedItem[], which: number): number[] | undefined {
  const parts = items.map(({ taps }) => {
    const names = Object.keys(taps);
    const { list } = stack(taps);
    const first = names.findIndex((n) => n.startsWith(`${list}.0.`));
    return taps[which === 0 ? names[first - 1]! : `${list}.${which - 1}`];
  });
  return parts.every((p) => p !== undefined) ? parts.flatMap((p) => [...floats(p)]) : undefined;
}

/** Columns [from, from + width) of the items' feature rows: what later layers take lies beside what enters the first. */
export function featureColumns(items: readonly EncodedItem[], from: number, width: number): number[] {
  return items.flatMap(({ features }) => {
    const [rows = 0, all = 0] = features.shape;
    const data = floats(features);
    return Array.from({ length: rows }, (_, r) => [...data.subarray(r * all + from, r * all + from + width)]).flat();
  });
}

export const floats = (tensor: NativeTensor): Float32Array => tensor.data as Float32Array;

/** The first `rows` rows: the prompt's, without what was forced behind it. */
export function firstRows(tensor: NativeTensor, rows: number): Float32Array {
  return floats(tensor).subarray(0, rows * tensor.shape.at(-1)!);
}

export const rowError = (ours: ArrayLike<number> | undefined, golden: GoldenTensor): number =>
  ours === undefined ? Infinity : relativeError(ours, golden.data as Float32Array, golden.shape.at(-1)!);

/**
 * How many pixels differ. Items lie one after the other, or each in an entry of its own that is padded with zeros behind the item's
 * own tiles, rows and columns, or all in the one entry of a leading dimension.
 */
export function pixelsDiffer(items: readonly EncodedItem[], golden: GoldenTensor): number {
  const ours = items.map(({ tensors }) => tensors.pixelValues!);
  const pixels = golden.data as Float32Array;
  const rank = ours[0]!.shape.length;
  const entries = golden.shape.length > rank && golden.shape[0] === ours.length;
  if (!entries) {
    const boxes = ours.map((t) => [...t.shape]);
    const inner = golden.shape.slice(golden.shape.length - rank + 1);
    if (boxes.every((b) => b.slice(1).every((n, i) => n === inner[i]))) {
      return differing(
        ours.flatMap((t) => [...(t.data as Float32Array)]),
        pixels,
      );
    }
  }
  const outer = golden.shape.slice(entries ? 1 : golden.shape.length - rank);
  if (!entries) outer[0]! /= ours.length;
  const size = outer.reduce((a, b) => a * b, 1);
  if (size * ours.length !== pixels.length) return pixels.length;
  return ours.reduce(
    (sum, t, i) => sum + boxDiffers(t.data as Float32Array, t.shape, pixels.subarray(i * size, (i + 1) * size), outer),
    0,
  );
}

/** `inner` in the corner of a box of zeros. */
function boxDiffers(data: Float32Array, inner: readonly number[], box: Float32Array, outer: readonly number[]): number {
  const padded = new Float32Array(box.length);
  const copy = (axis: number, from: number, to: number): void => {
    if (axis === inner.length - 1) return padded.set(data.subarray(from, from + inner[axis]!), to);
    const [a, b] = [inner, outer].map((s) => s.slice(axis + 1).reduce((x, y) => x * y, 1)) as [number, number];
    for (let i = 0; i < inner[axis]!; i++) copy(axis + 1, from + i * a, to + i * b);
  };
  if (inner.length !== outer.length || inner.some((n, i) => n > outer[i]!)) return box.length;
  copy(0, 0, 0);
  return differing(padded, box);
}
