// Files of random weights that rows load: written once, into out/bench/models, and kept.
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeEncoder, writeLlama, writeLlava } from './peers/onnx.mjs';
import { shapes } from './serving/engine.mjs';
import { writeGguf } from './serving/gguf.mjs';
import { writeSafetensors } from './safetensors.mjs';

const root = fileURLToPath(new URL('../out/bench/models', import.meta.url));

/** Written under another name first: half a file is never taken for a whole one. */
function once(name, write) {
  const path = join(root, name.replaceAll('+', '-with-')); // transformers.js takes a name with a plus for a remote one
  if (existsSync(path)) return path;
  mkdirSync(root, { recursive: true });
  const part = `${path}.${process.pid}`;
  try {
    write(part);
    renameSync(part, path);
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
  return path;
}

export const ggufFile = (shape, type) => once(`${shape}.${type}.gguf`, (path) => writeGguf(path, shapes[shape], type));
export const onnxFolder = (shape) => once(`${shape}-q8-onnx`, (path) => writeLlama(path, shapes[shape]));
export const onnxLlavaFolder = (shape) => once(`${shape}-q8-onnx`, (path) => writeLlava(path, shapes[shape]));
export const onnxEncoder = (shape) =>
  once(`${shape}-q8.onnx`, (path) => writeEncoder(path, shapes[shape].vision_config));
/** A checkpoint's folder in bfloat16. */
export const safetensorsFolder = (shape) => once(`${shape}-bf16`, (path) => writeSafetensors(path, shapes[shape]));
