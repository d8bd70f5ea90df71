// Attention by multiply-adds (prefill, pictures) and by bytes of keys and values (decode).
import { filled, line, time } from './op.mjs';

const i32 = (data, shape = [data.length]) => ({ dtype: 'i32', shape, data: Int32Array.from(data) });

/** Sequences of `context` tokens whose last `rows` are queries; blocks in order. */
function step(sequences, rows, context, { kvHeads, dim, kv }) {
  const blockSize = 16;
  const blocks = Math.ceil(context / blockSize);
  const each = Array.from({ length: sequences }, (_, s) => s);
  const cache = filled([sequences * blocks, kvHeads, blockSize, dim], kv);
  return {
    k: cache,
    v: cache,
    sequences,
    maxBlocks: blocks,
    cuRows: i32([...each, sequences].map((s) => s * rows)),
    context: i32(each.map(() => context)),
    blockTable: i32(
      each.flatMap((s) => Array.from({ length: blocks }, (_, b) => s * blocks + b)),
      [sequences, blocks],
    ),
    slot: i32(each.flatMap(() => Array.from({ length: rows }, () => -1))),
    hi: i32(each.flatMap(() => Array.from({ length: rows }, (_, i) => context - rows + i + 1))),
  };
}

function paged(name, sequences, rows, context, model) {
  return (backend, threads, roof) => {
    const { heads, kvHeads, dim, kv } = model;
    const total = sequences * rows;
    const seconds = time(
      backend,
      'attention_paged',
      [filled([total, heads, dim])],
      [{ dtype: 'f32', shape: [total, heads, dim] }],
      { layer: 0, scale: 0.125 },
      { threads, step: step(sequences, rows, context, model) },
    );
    const seen = sequences * (rows * context - (rows * (rows - 1)) / 2);
    const bytes = rows > 1 ? 0 : sequences * context * kvHeads * dim * 2 * (kv === 'bf16' ? 2 : 4);
    return line(
      `${name} ${kv}: ${sequences} x ${rows} rows at ${context}`,
      seconds,
      { operations: [4 * seen * heads * dim, roof.f32], bytes },
      roof,
    );
  };
}

function vision(name, tokens, heads, dim, bf16 = 1) {
  return (backend, threads, roof) => {
    const x = filled([tokens, heads, dim]);
    const seconds = time(
      backend,
      'attention_varlen',
      [x, x, x, null],
      [{ dtype: 'f32', shape: [tokens, heads, dim] }],
      { scale: 0.125, bf16 },
      { threads },
    );
    return line(
      `${name} ${bf16 ? 'bf16' : 'f32'}: ${tokens} x ${heads} heads of ${dim}`,
      seconds,
      { operations: [4 * tokens * tokens * heads * dim, roof.f32] },
      roof,
    );
  };
}

const tinyLlama = { heads: 32, kvHeads: 4, dim: 64, kv: 'bf16' };
const smolLm2 = { heads: 9, kvHeads: 3, dim: 64, kv: 'bf16' };
const llama8B = { heads: 32, kvHeads: 8, dim: 128, kv: 'bf16' };

export const rows = {
  attention: (...args) =>
    [
      vision('CLIP-L', 577, 16, 64),
      vision('CLIP-L', 577, 16, 64, 0),
      vision('SigLIP', 1024, 12, 64),
      vision('Qwen2-VL', 4000, 16, 80),
      paged('TinyLlama', 1, 512, 512, tinyLlama),
      paged('TinyLlama', 1, 512, 512, { ...tinyLlama, kv: 'f32' }),
      paged('TinyLlama', 1, 2048, 2048, tinyLlama),
      paged('TinyLlama', 1, 256, 4096, tinyLlama),
      paged('Llama 8B', 1, 512, 2048, llama8B),
      paged('TinyLlama', 1, 1, 1024, tinyLlama),
      paged('TinyLlama', 1, 1, 4096, tinyLlama),
      paged('TinyLlama', 1, 1, 16384, tinyLlama),
      paged('SmolLM2', 1, 1, 16384, smolLm2),
      paged('TinyLlama', 8, 1, 4096, tinyLlama),
      paged('TinyLlama', 8, 1, 4096, { ...tinyLlama, kv: 'f32' }),
      paged('Llama 8B', 4, 1, 4096, llama8B),
    ].map((run) => run(...args)),
};
