import { OcelliError } from '../errors';

export type DType = 'float32' | 'bfloat16' | 'float16' | 'int8' | 'uint8' | 'int32' | 'int64';

const elementBytes: Record<DType, number> = {
  float32: 4,
  bfloat16: 2,
  float16: 2,
  int8: 1,
  uint8: 1,
  int32: 4,
  int64: 8,
};

/** A dense row-major tensor. bfloat16 and float16 lie in a Uint16Array, int64 in a BigInt64Array. */
export class Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView;

  constructor(dtype: DType, shape: readonly number[], data: ArrayBufferView) {
    const bytes = elementBytes[dtype];
    if (bytes === undefined) {
      throw new OcelliError(
        'ERR_TENSOR',
        `Expected one of ${Object.keys(elementBytes).join(', ')} for dtype but received ${String(dtype)}`,
      );
    }
    if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0)) {
      throw new OcelliError(
        'ERR_TENSOR',
        `Expected non-negative integers for shape but received [${shape.join(', ')}]`,
      );
    }
    if (!ArrayBuffer.isView(data)) throw new OcelliError('ERR_TENSOR', 'Expected a typed array for data');
    const expected = shape.reduce((a, b) => a * b, 1) * bytes;
    if (data.byteLength !== expected) {
      throw new OcelliError(
        'ERR_TENSOR',
        `Expected ${expected} bytes for a ${dtype} tensor of shape [${shape.join(', ')}] but received ${data.byteLength}`,
      );
    }
    this.dtype = dtype;
    this.shape = Object.freeze([...shape]);
    this.data = data;
  }
}

/** True for tensors of any copy of the package. */
export function isTensor(value: unknown): value is Tensor {
  if (value instanceof Tensor) return true;
  if (typeof value !== 'object' || value === null) return false;
  const t = value as Partial<Tensor>;
  return typeof t.dtype === 'string' && Array.isArray(t.shape) && ArrayBuffer.isView(t.data);
}
