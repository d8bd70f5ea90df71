/** How near weights of eight and four bits stay to float32: the direction of logits, and the likeliest token. */
import { basename } from 'node:path';
import { answer } from './check';
import { argmax } from './compare';
import { readGoldenFolder } from './folder';
import { GoldenModel } from './model';

export interface Nearness {
  /** Cosine of the logits behind each prompt and each of the golden tokens to float32's. */
  mean: number;
  /** Share of steps whose likeliest token, where it leads by one nat, is float32's. */
  agreement: number;
}

export type Quantization = 'int8' | 'int4';

/**
 * By folder: how much the mean cosine may lack to 1 in either format, and the least agreement in int4 (in int8 it is 0.9 everywhere).
 * Weights of a normal distribution lose 0.7% of their length to int8 and 8% to int4 in each product, activations 0.7% more; the losses of
 * all layers add up as squares, so that deep, narrow and much-normed families lose more: the most is Gemma 3's, whose scores reach 22.
 * All instruction sets and the reference lose the same to two digits; a bound is half as much again.
 */
export const bounds: Readonly<Record<string, Readonly<Record<Quantization | 'agreement', number>>>> = {
  gemma2: { int8: 0.00094, int4: 0.09, agreement: 0.95 },
  gemma3: { int8: 0.016, int4: 0.4, agreement: 0.1 },
  idefics3: { int8: 0.00024, int4: 0.023, agreement: 0.8 },
  internvl: { int8: 0.00021, int4: 0.02, agreement: 0.85 },
  llama: { int8: 0.00031, int4: 0.029, agreement: 0.8 },
  'llama3-rope': { int8: 0.0011, int4: 0.11, agreement: 0.75 },
  'llava-1.5': { int8: 0.00033, int4: 0.032, agreement: 0.85 },
  'llava-1.5-full': { int8: 0.00034, int4: 0.033, agreement: 0.75 },
  'llava-next-llama': { int8: 0.00032, int4: 0.037, agreement: 0.8 },
  'llava-next-mistral': { int8: 0.00039, int4: 0.041, agreement: 0.75 },
  'llava-siglip': { int8: 0.00033, int4: 0.045, agreement: 0.85 },
  llava_onevision: { int8: 0.00034, int4: 0.035, agreement: 0.75 },
  mistral: { int8: 0.00032, int4: 0.032, agreement: 0.75 },
  mistral3: { int8: 0.00048, int4: 0.058, agreement: 0.65 },
  paligemma: { int8: 0.0014, int4: 0.13, agreement: 0.6 },
  phi3: { int8: 0.00066, int4: 0.067, agreement: 0.7 },
  pixtral: { int8: 0.0004, int4: 0.058, agreement: 0.7 },
  qwen2: { int8: 0.0003, int4: 0.028, agreement: 0.9 },
  qwen2_5_vl: { int8: 0.00024, int4: 0.025, agreement: 0.85 },
  qwen2_vl: { int8: 0.00035, int4: 0.037, agreement: 0.75 },
  qwen3: { int8: 0.00029, int4: 0.026, agreement: 0.85 },
  qwen3_vl: { int8: 0.00017, int4: 0.023, agreement: 0.9 },
  smollm2: { int8: 0.0013, int4: 0.14, agreement: 0.75 },
  smolvlm: { int8: 0.00019, int4: 0.02, agreement: 0.85 },
};

export async function nearnessOf(path: string, backend: string, quantization: Quantization): Promise<Nearness> {
  const folder = readGoldenFolder(path);
  const load = (setting: object): Promise<GoldenModel> =>
    GoldenModel.load(path, { backend, dtype: 'float32', threads: 2, ...setting });
  const [float, packed] = [await load({}), await load({ quantization })];
  const cosines: number[] = [];
  let [clear, same] = [0, 0];
  try {
    for (const golden of folder.cases) {
      const [theirs, ours] = [await answer(float, folder, golden), await answer(packed, folder, golden)].map((a) => {
        const { shape, data } = a.answered!.forward.logits;
        const width = shape[1]!;
        const steps = golden.greedy.token_ids.length;
        return Array.from({ length: steps }, (_, i) => {
          const row = shape[0]! - steps + i;
          return (data as Float32Array).subarray(row * width, (row + 1) * width);
        });
      }) as [Float32Array[], Float32Array[]];
      for (const [i, row] of theirs.entries()) {
        cosines.push(cosine(row, ours[i]!));
        const [first, second] = golden.greedy.top_logprobs[i]!;
        if (first![1] - second![1] < 1) continue;
        clear++;
        if (argmax(row) === argmax(ours[i]!)) same++;
      }
    }
  } finally {
    float.dispose();
    packed.dispose();
  }
  const mean = cosines.reduce((a, b) => a + b, 0) / cosines.length;
  return { mean, agreement: same / Math.max(1, clear) };
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [product, left, right] = [0, 0, 0];
  a.forEach((x, i) => {
    product += x * b[i]!;
    left += x * x;
    right += b[i]! * b[i]!;
  });
  return product / Math.sqrt(left * right);
}

/** What a folder misses. */
export async function missedBy(path: string, backend: string, quantization: Quantization): Promise<string[]> {
  const { mean, agreement } = await nearnessOf(path, backend, quantization);
  const bound = bounds[basename(path)]!;
  const least = quantization === 'int8' ? 0.9 : bound.agreement;
  return [
    ...(1 - mean <= bound[quantization] ? [] : [`mean cosine ${mean}`]),
    ...(agreement >= least ? [] : [`agreement ${agreement}`]),
  ];
}
