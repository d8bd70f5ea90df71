/** What computes: the processor, or a GPU where the CUDA part of this package is installed and a driver answers. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { EngineOptions } from '../config/options';
import { OcelliError } from '../errors';
import { nativeError, type NativeBinding } from '../native';

export interface ComputeDevice {
  /** What the native side calls it: `cpu`, or `device:<number>`. */
  backend: string;
  /** Of a GPU: what its maker calls it, and what is free on it. */
  gpu?: { name: string; freeBytes: number };
  /** Why it is this one. */
  reason: string;
}

const noLibrary = 'the CUDA part of ocelli is not installed';

/** The library in a clone (`npm run build:cuda`, or the one of the tests), else the package that is installed for it. */
function findLibrary(): string | undefined {
  const file = 'libocelli_cuda.so';
  const folder = process.env.OCELLI_CUDA === 'emulated' ? 'out/cuda/build' : 'build/cuda';
  const own = join(__dirname, '..', '..', folder, file);
  if (existsSync(own)) return own;
  try {
    return require.resolve(`ocelli-cuda/${file}`);
  } catch {
    return undefined;
  }
}

/** Throws for a GPU that was asked for and is not to be had; 'auto' then is the processor, for that reason. */
export async function chooseDevice(
  native: NativeBinding,
  option: NonNullable<EngineOptions['device']> = 'auto',
): Promise<ComputeDevice> {
  if (option === 'cpu') return { backend: 'cpu', reason: "device is 'cpu'" };
  const library = findLibrary();
  const ordinal = Number(option.split(':')[1] ?? 0);
  if (library === undefined) {
    if (option === 'auto') return { backend: 'cpu', reason: noLibrary };
    throw new OcelliError(
      'ERR_UNSUPPORTED',
      `Expected 'auto' or 'cpu' for device but received '${option}': ${noLibrary}`,
      {
        hint: 'Install it, or choose the CPU; docs/cuda.md says how.',
        details: { option: 'device' },
      },
    );
  }
  try {
    const gpu = await native.openDevice(library, ordinal);
    return { backend: `device:${ordinal}`, gpu, reason: `${gpu.name} answers` };
  } catch (e) {
    if (option === 'auto') return { backend: 'cpu', reason: (nativeError(e) as Error).message };
    throw nativeError(e);
  }
}
