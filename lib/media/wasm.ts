/** WebAssembly codecs: compiled once per worker, a fresh instance per picture, so that no memory outlives a picture. */
import { readFileSync } from 'node:fs';

/** The part of WebAssembly that is used; its types are the DOM library's, which a Node package does not load. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (
    module: object,
    imports: Record<string, Record<string, unknown>>,
  ) => { exports: Record<string, unknown> };
};

export interface WasmMemory {
  readonly buffer: ArrayBuffer;
}

/** The codec left through setjmp, exit or a system call. */
export class WasmExit extends Error {}

const modules = new Map<string, object>();

export function instantiate(specifier: string): Record<string, unknown> {
  let module = modules.get(specifier);
  if (!module) {
    module = new WebAssembly.Module(readFileSync(require.resolve(specifier)));
    modules.set(specifier, module);
  }
  const exit = (name: string) => (): never => {
    throw new WasmExit(name);
  };
  const holder: { memory?: WasmMemory } = {}; // known once the instance exists, which needs these functions first
  const system: Record<string, (...args: number[]) => number> = {
    // Answers "no environment": counts of zero.
    environ_sizes_get: (count, size) => {
      const view = new DataView(holder.memory!.buffer);
      view.setUint32(count!, 0, true);
      view.setUint32(size!, 0, true);
      return 0;
    },
    environ_get: () => 0,
  };
  for (const name of ['proc_exit', 'fd_close', 'fd_seek', 'fd_write']) system[name] = exit(name);
  const instance = new WebAssembly.Instance(module, {
    env: { setjmp: () => 0, longjmp: exit('longjmp') },
    wasi_snapshot_preview1: system,
  });
  holder.memory = instance.exports.memory as WasmMemory;
  return instance.exports;
}
