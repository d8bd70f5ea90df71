/** Every setting of the reference's image processors, bit by bit: shapes and SHA-256 of the tensors, and what else each hands over. */
import { join } from 'node:path';
import { decodeImage, type RawImage } from '../../dist/media';
import { ImageProcessor } from '../../dist/multimodal';
import type { Tensor } from '../../dist/media/tensor';
import { pattern, readJson, sha256, shared } from '../media/pictures';

interface Output {
  shape: number[];
  dtype: string;
  sha256?: string;
  data?: unknown[];
  sum?: number;
}

interface Case {
  settings: string;
  input: { pattern?: [number, number]; file?: string };
  outputs?: Record<string, Output>;
  error?: object;
}

interface Batch {
  settings: string;
  patterns: [number, number][];
  nesting: 'flat' | 'one prompt' | 'one image per prompt';
  outputs: Record<string, Output>;
}

const { settings, cases, batches } = readJson<{
  settings: Record<string, { class: string }>;
  cases: Case[];
  batches: Batch[];
}>(shared, 'golden', 'preprocess', 'cases.json');

const processorOf = (name: string): ImageProcessor =>
  ImageProcessor.fromConfig({ ...settings[name], image_processor_type: settings[name]!.class });

const decoded = new Map<string, Promise<RawImage>>();
function picture({ pattern: size, file }: Case['input']): Promise<RawImage> | RawImage {
  if (size) return pattern(...size);
  if (!decoded.has(file!)) decoded.set(file!, decodeImage(join(shared, 'golden', 'images', file!)));
  return decoded.get(file!)!;
}

/** Said in other words: masks of whole tiles, the number of pictures. */
const elsewhere = new Set(['pixel_attention_mask', 'batch_num_images']);

function check(found: Record<string, Tensor>, outputs: Record<string, Output>): void {
  for (const [name, output] of Object.entries(outputs)) {
    if (elsewhere.has(name)) continue;
    const tensor = found[name.replace(/_(\w)/g, (_, c: string) => c.toUpperCase())]!;
    if (output.sha256 === undefined) {
      expect([name, Array.from(tensor.data as BigInt64Array, Number)]).toEqual([name, output.data!.flat()]);
      continue;
    }
    expect([name, tensor.shape]).toEqual([name, output.shape]);
    expect([name, sha256(tensor.data as never)]).toEqual([name, output.sha256]);
  }
}

test('all settings are here', () => {
  expect(Object.keys(settings)).toHaveLength(31);
  expect(new Set(cases.map((c) => c.settings)).size).toBe(31);
});

test.each(Object.keys(settings))('%s', async (name) => {
  const processor = processorOf(name);
  for (const { input, outputs, error } of cases.filter((c) => c.settings === name)) {
    const found = Promise.resolve(picture(input)).then((image) => processor.preprocess([image]));
    if (error) await expect(found).rejects.toMatchObject({ code: 'ERR_IMAGE_ASPECT' });
    else check(await found, outputs!);
  }
});

test.each(batches.map((b) => [b.settings, b.nesting, b] as const))('%s, a batch, %s', async (name, nesting, batch) => {
  const processor = processorOf(name);
  const images = batch.patterns.map((size) => pattern(...size));
  if (nesting !== 'one prompt') return check(await processor.preprocess(images), batch.outputs);
  if (settings[name]!.class.startsWith('LlavaOnevision'))
    return check(await processor.preprocess(images, { visionAspectRatio: 'pad' }), batch.outputs);
  // All tiles of a prompt in one entry: the engine maps each picture for itself.
  const each = await Promise.all(images.map((image) => processor.preprocess([image])));
  const joined = (key: string): Buffer =>
    Buffer.concat(each.map((t) => Buffer.from((t[key]!.data as Uint8Array).buffer)));
  expect(sha256(joined('pixelValues'))).toBe(batch.outputs.pixel_values!.sha256);
  for (const key of ['rows', 'cols']) {
    expect(each.flatMap((t) => Array.from(t[key]!.data as BigInt64Array, Number))).toEqual(
      batch.outputs[key]!.data!.flat(),
    );
  }
});
