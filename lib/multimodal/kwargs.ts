import { isTensor, Tensor, type DType } from '../media/tensor';

/** A tensor, or lists of tensors where shapes differ. */
export type NestedTensors = Tensor | NestedTensors[];

/** The keyword tensors of a model's forward: what mappers give and what batches of requests are made of. */
export class MultiModalKwargs {
  [name: string]: NestedTensors;

  constructor(values: Readonly<Record<string, unknown>> = {}) {
    for (const [name, value] of Object.entries(values)) {
      if (value !== undefined) this[name] = tryStack(value);
    }
  }

  /**
   * Batches several inputs: the union of their keys, each a list of the inputs' values, stacked recursively where all shapes are
   * equal and kept as lists where they are not (vLLM v0.6.3, vllm/multimodal/base.py, MultiModalInputs.batch).
   */
  static batch(inputs: readonly Readonly<Record<string, unknown>>[]): MultiModalKwargs {
    const lists = new Map<string, unknown[]>();
    for (const input of inputs) {
      for (const [name, value] of Object.entries(input)) {
        const list = lists.get(name);
        if (list) list.push(value);
        else lists.set(name, [value]);
      }
    }
    return new MultiModalKwargs(Object.fromEntries(lists));
  }
}

/** A new first dimension over tensors of one shape and dtype. */
export function stack(tensors: readonly Tensor[]): Tensor {
  return joined(tensors, [tensors.length, ...tensors[0]!.shape]);
}

/** Tensors [.., width] of one dtype and width, one after the other: [rows, width]. */
export function joinRows(tensors: readonly Tensor[]): Tensor {
  const width = tensors[0]!.shape.at(-1) ?? 0;
  return joined(tensors, [
    tensors.reduce((rows, t) => rows + t.shape.slice(0, -1).reduce((a, b) => a * b, 1), 0),
    width,
  ]);
}

function joined(tensors: readonly Tensor[], shape: readonly number[]): Tensor {
  const { dtype } = tensors[0]!;
  const bytes = new Uint8Array(tensors.reduce((n, t) => n + t.data.byteLength, 0));
  let offset = 0;
  for (const t of tensors) {
    bytes.set(new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength), offset);
    offset += t.data.byteLength;
  }
  return new Tensor(dtype, shape, viewAs(dtype, bytes));
}

/** Item `index` of the first dimension, without it. */
export function unstack(tensor: Tensor): Tensor[] {
  const [n = 0, ...shape] = tensor.shape;
  const bytes = tensor.data.byteLength / Math.max(n, 1);
  return Array.from({ length: n }, (_, i) => {
    const part = new Uint8Array(tensor.data.buffer, tensor.data.byteOffset + i * bytes, bytes);
    const aligned = part.byteOffset % 8 === 0 ? part : part.slice();
    return new Tensor(tensor.dtype, shape, viewAs(tensor.dtype, aligned));
  });
}

function viewAs(dtype: DType, bytes: Uint8Array): ArrayBufferView {
  const { buffer, byteOffset, byteLength } = bytes;
  switch (dtype) {
    case 'float32':
      return new Float32Array(buffer, byteOffset, byteLength / 4);
    case 'bfloat16':
    case 'float16':
      return new Uint16Array(buffer, byteOffset, byteLength / 2);
    case 'int32':
      return new Int32Array(buffer, byteOffset, byteLength / 4);
    case 'int64':
      return new BigInt64Array(buffer, byteOffset, byteLength / 8);
    case 'int8':
      return new Int8Array(buffer, byteOffset, byteLength);
    case 'uint8':
      return bytes;
  }
}

function tryStack(value: unknown): NestedTensors {
  if (isTensor(value)) return value;
  if (typeof value === 'number') {
    return Number.isInteger(value)
      ? new Tensor('int64', [], BigInt64Array.of(BigInt(value)))
      : new Tensor('float32', [], Float32Array.of(value));
  }
  if (typeof value === 'bigint') return new Tensor('int64', [], BigInt64Array.of(value));
  const items = Array.from(value as Iterable<unknown>, tryStack);
  const tensors = items.filter(isTensor);
  const first = tensors[0];
  if (first === undefined || tensors.length !== items.length) return items;
  const same = tensors.every(
    (t) =>
      t.dtype === first.dtype && t.shape.length === first.shape.length && t.shape.every((n, i) => n === first.shape[i]),
  );
  return same ? stack(tensors) : items;
}
