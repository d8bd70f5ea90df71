/** Tensors on their way into the addon: float32 and int32 are what programs read. */
import { OcelliError } from '../errors';
import type { Tensor } from '../media/tensor';
import type { NativeTensor } from '../native';

/** @param dtype as `static inputs` declares it; half precision is widened, int64 indices are narrowed where they fit */
export function toNative(name: string, tensor: Tensor, dtype: 'float32' | 'int32'): NativeTensor {
  const shape = [...tensor.shape];
  if (dtype === 'int32') {
    if (tensor.dtype === 'int32') return { dtype: 'i32', shape, data: tensor.data };
    if (tensor.dtype === 'int64') {
      const data = Int32Array.from(tensor.data as BigInt64Array, (v) => {
        const n = Number(v);
        if (n === (n | 0)) return n;
        throw bad(name, 'indices of 32 bits', String(v));
      });
      return { dtype: 'i32', shape, data };
    }
    throw bad(name, 'int32 or int64', tensor.dtype);
  }
  if (tensor.dtype === 'float32') return { dtype: 'f32', shape, data: tensor.data };
  if (tensor.dtype === 'bfloat16' || tensor.dtype === 'float16') {
    const widen = tensor.dtype === 'bfloat16' ? fromBfloat16 : fromFloat16;
    return { dtype: 'f32', shape, data: widen(tensor.data as Uint16Array) };
  }
  throw bad(name, 'float32, bfloat16 or float16', tensor.dtype);
}

function bad(name: string, expected: string, received: string): OcelliError {
  return new OcelliError('ERR_MM_INPUTS', `Expected ${expected} for ${name} but received ${received}`, {
    details: { input: name },
  });
}

/** Embeddings come from outside: one NaN in them would make every logit of their request NaN, so it is found at submission. */
export function checkFinite(name: string, { data }: NativeTensor): void {
  const values = data as Float32Array;
  // x - x is 0 unless x is infinite or NaN; one sum over the array is far cheaper than a test per element.
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! - values[i]!;
  if (sum !== 0) throw bad(name, 'finite numbers', 'infinite ones or NaN');
}

function fromBfloat16(data: Uint16Array): Float32Array {
  const bits = new Uint32Array(data.length);
  for (let i = 0; i < data.length; i++) bits[i] = data[i]! << 16;
  return new Float32Array(bits.buffer);
}

function fromFloat16(data: Uint16Array): Float32Array {
  const out = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const h = data[i]!;
    const sign = h & 0x8000 ? -1 : 1;
    const exponent = (h >> 10) & 31;
    const fraction = h & 1023;
    if (exponent === 0) out[i] = sign * fraction * 2 ** -24;
    else if (exponent === 31) out[i] = fraction ? NaN : sign * Infinity;
    else out[i] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return out;
}
