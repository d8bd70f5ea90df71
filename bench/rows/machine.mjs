// The machine, and the real checkpoint that some rows ask.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { native } from '../ops/op.mjs';

export const { cores, isa } = native.info();

const shared = process.env.OCELLI_SHARED ?? fileURLToPath(new URL('../../../shared', import.meta.url));
/** SmolLM2-135M-Instruct in Q4_1, of ../shared or where OCELLI_GGUF says. */
export const smollm2File = process.env.OCELLI_GGUF ?? join(shared, 'models/SmolLM2-135M-Instruct.Q4_1.gguf');
