/** Weights of eight and four bits: text, fused weights, norms by 1 + weight, tiles, three axes of positions, weights read transposed. */
import { join } from 'node:path';
import { missedBy } from '../goldens/quantized';
import { fixtureModels } from './fixtures';

const folders = ['llama', 'phi3', 'gemma2', 'smolvlm', 'qwen2_vl', 'qwen3_vl', 'gemma3', 'mistral3'];
const settings = folders.flatMap((folder) => (['int8', 'int4'] as const).map((q) => [folder, q] as const));

test.each(settings)('%s in %s stays near float32', async (folder, quantization) => {
  expect(await missedBy(join(fixtureModels, folder), 'cpu', quantization)).toEqual([]);
});
