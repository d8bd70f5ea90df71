/** Every setting of the reference's image processors, bit for bit: alone and in batches. */
import { join } from 'node:path';
import { ImageProcessor, type Tensor } from '../../dist/index';
import { decodeImage, type RawImage } from '../../dist/media';
import { codeOf, pattern, readJson, sha256, shared } from '../media/pictures';

interface Output {
  shape: number[];
  dtype: string;
  sha256?: string;
  data?: unknown[];
}

interface Golden {
  settings: string;
  error?: { message: string };
  outputs: Record<string, Output>;
}

interface Goldens {
  settings: Record<string, { class: string; [field: string]: unknown }>;
  cases: (Golden & { input: { file?: string; pattern?: [number, number] } })[];
  batches: (Golden & { patterns: [number, number][]; nesting: string })[];
}

const { settings, cases, batches } = readJson<Goldens>(shared, 'golden', 'preprocess', 'cases.json');

/** Classes that the library does not have: they must be refused, and leave this list once there is one. */
const without = [
  'Gemma3ImageProcessor',
  'GotOcr2ImageProcessor',
  'Idefics3ImageProcessor',
  'PixtralImageProcessor',
  'SmolVLMImageProcessor',
];

const settingsOf = (name: string): Record<string, unknown> => {
  const { class: type, used_by: _, ...fields } = settings[name]!;
  return { image_processor_type: type, ...fields };
};

async function check(images: RawImage[], golden: Golden, kwargs: Record<string, unknown> = {}): Promise<void> {
  const processed = ImageProcessor.fromConfig(settingsOf(golden.settings)).preprocess(images, kwargs);
  if (golden.error) return expect(await codeOf(processed)).toMatch(/^ERR_IMAGE_/);
  const tensors = await processed;
  for (const [name, { shape, dtype, sha256: hash, data }] of Object.entries(golden.outputs)) {
    // How many pictures each prompt has is the caller's.
    if (name === 'batch_num_images') continue;
    const tensor: Tensor | undefined = tensors[name.replace(/_(\w)/g, (_, c: string) => c.toUpperCase())];
    expect([name, tensor?.dtype, tensor?.shape]).toEqual([name, dtype, shape]);
    const { buffer, byteOffset, byteLength } = tensor!.data;
    if (hash !== undefined) expect(sha256(new Uint8Array(buffer, byteOffset, byteLength))).toBe(hash);
    else expect(Array.from(tensor!.data as BigInt64Array, Number)).toEqual((data as unknown[]).flat());
  }
}

test.each(Object.entries(settings))('%s', async (name, { class: type }) => {
  if (without.includes(type))
    return expect(() => ImageProcessor.fromConfig(settingsOf(name))).toThrow(
      expect.objectContaining({ code: 'ERR_PROCESSOR_CONFIG' }),
    );
  const own = cases.filter((c) => c.settings === name);
  expect(own.length).toBeGreaterThan(0);
  for (const golden of own) {
    const { file, pattern: size } = golden.input;
    const image = file === undefined ? pattern(...size!) : await decodeImage(join(shared, 'golden', 'images', file));
    await check([image], golden);
  }
});

test.each(batches.filter((b) => !without.includes(settings[b.settings]!.class)))(
  'batches: $settings, $nesting',
  async (golden) => {
    const single = golden.nesting === 'one prompt' ? { visionAspectRatio: 'pad' } : {};
    await check(
      golden.patterns.map((size) => pattern(...size)),
      golden,
      single,
    );
  },
);
