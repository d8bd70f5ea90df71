/**
 * Placeholders and rows: whatever the sizes, pinpoints and limits, the input processor writes as many placeholders as the engine's mapper
 * and the encoder's own shape inference make rows. Both sides run as they do for a request; only the encoder's arithmetic is left out.
 */
import fc from 'fast-check';
import type { ModelConfig } from '../../dist/config';
import { programTexts } from '../../dist/engine/item-size';
import { ItemMapper } from '../../dist/engine/items';
import { InputContext, INPUT_REGISTRY, MULTIMODAL_REGISTRY, Tensor } from '../../dist/index';
import { LlavaNextForConditionalGeneration as LlavaNext } from '../../dist/models/llava_next';
import { Qwen2VLForConditionalGeneration as Qwen2Vl } from '../../dist/models/qwen2_vl';
import { largestPicture } from '../../dist/models/dynamic-resolution';
import { selectBestResolution } from '../../dist/multimodal/processors/llava-next';
import { smartResize } from '../../dist/multimodal/processors/qwen2-vl';
import { loadNative } from '../../dist/native';
import { traceModel } from '../../dist/nn';
import { fixture, picture } from '../registries/support';

const folders = ['llava-1.5', 'llava-siglip', 'llava-next-mistral', 'qwen2_vl', 'qwen2_5_vl', 'qwen3_vl'];
const configs = new Map<string, ModelConfig>();
beforeAll(async () => {
  for (const name of folders) configs.set(name, await fixture(name, { limitMmPerPrompt: { image: 3 } }));
});

/** The configuration with other fields in config.json and preprocessor_config.json. */
function variant(config: ModelConfig, model: object, processor: object): ModelConfig {
  return Object.assign(Object.create(Object.getPrototypeOf(config) as object) as ModelConfig, config, {
    hfConfig: { ...config.hfConfig, ...model },
    preprocessorConfig: { ...config.preprocessorConfig, ...processor },
  });
}

const tokenOf = (config: ModelConfig): number => (config.hfConfig as { image_token_index: number }).image_token_index;

/** Placeholders of each picture: between two of them stands another token. */
async function placeholders(
  config: ModelConfig,
  image: readonly unknown[],
  mmProcessorKwargs: object,
): Promise<number[]> {
  const token = tokenOf(config);
  const promptTokenIds = image.flatMap(() => [token, token + 1]);
  const processed = await INPUT_REGISTRY.processInput(config, {
    promptTokenIds,
    multiModalData: { image } as never,
    mmProcessorKwargs: { ...mmProcessorKwargs },
  });
  const counts: number[] = [];
  let run = 0;
  for (const id of processed.promptTokenIds) {
    if (id === token) run++;
    else {
      counts.push(run);
      run = 0;
    }
  }
  return counts;
}

async function rows(config: ModelConfig, image: readonly unknown[], kwargs: object): Promise<number[]> {
  const traced = traceModel(config.modelClass as never, config.hfConfig);
  const texts = programTexts(traced);
  const native = loadNative();
  const mapper = new ItemMapper(
    config,
    traced,
    (program, symbols) =>
      native.programShape(texts[program]!, 'features', symbols).reduce((a, b) => a * b) / traced.featureWidth,
  );
  return (await mapper.map({ image } as never, { ...kwargs })).map((item) => item.rows);
}

/** Sides from 1 to 4000 with a bounded area, since these pictures are really resized. */
const side = fc.oneof(
  fc.integer({ min: 1, max: 4000 }),
  fc.integer({ min: 1, max: 60 }),
  fc.constantFrom(56, 57, 112, 4000),
);
const size = fc.tuple(side, side).map(([w, h]) => [w, Math.min(h, Math.max(1, Math.floor(1e6 / w)))] as const);
const sizes = fc.array(size, { minLength: 1, maxLength: 3 });

test.each(folders)('%s: real pictures', async (name) => {
  await fc.assert(
    fc.asyncProperty(sizes, async (given) => {
      // What these refuse is left out: Qwen2-VL an aspect above 200, and a shortest edge of 56 pixels one that resizes beyond 131072.
      const longest = name.startsWith('qwen') ? 200 : ({ 'llava-1.5': 2000 }[name] ?? Infinity);
      const images = given.map(([w, h]) => picture(Math.min(w, longest * h), Math.min(h, longest * w)));
      const config = configs.get(name)!;
      expect(await rows(config, images, {})).toEqual(await placeholders(config, images, {}));
    }),
    { numRuns: 15 },
  );
});

const int64 = (...values: number[]): Tensor =>
  new Tensor('int64', [1, values.length], BigInt64Array.from(values, BigInt));

test('LLaVA-NeXT: any size from 1 to 4000 under any pinpoints', async () => {
  const any = fc.integer({ min: 1, max: 4000 });
  const count = fc.integer({ min: 1, max: 6 });
  const points = fc.uniqueArray(fc.tuple(count, count), { minLength: 1, maxLength: 8, selector: String });
  await fc.assert(
    fc.asyncProperty(points, fc.array(fc.tuple(any, any), { minLength: 1, maxLength: 40 }), async (grids, given) => {
      const pinpoints = grids.map(([h, w]) => [56 * h, 56 * w] as const);
      const fields = { image_grid_pinpoints: pinpoints };
      const config = variant(configs.get('llava-next-mistral')!, fields, fields);
      MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
      const most = MULTIMODAL_REGISTRY.getPlugin('image').getMaxMultimodalTokens(config);
      // Pixels of no importance: sizes alone decide.
      const images = given.map(([height, width]) => ({ ...picture(1, 1), height, width }));
      const counts = await placeholders(config, images, {});
      given.forEach(([height, width], i) => {
        const [h, w] = selectBestResolution(height, width, pinpoints);
        const tiles = 1 + (h / 56) * (w / 56);
        const pixelValues = new Tensor('float32', [tiles, 0, 56, 56], new Float32Array(0));
        const tensors = { pixelValues, imageSizes: int64(height, width) };
        const index = LlavaNext.prepare(new InputContext(config), { modality: 'image', tensors }).featureIndex!;
        const entries = index.data as Int32Array;
        expect(entries).toHaveLength(counts[i]!);
        expect(counts[i]).toBeLessThanOrEqual(most);
        expect(entries.every((e) => e >= 0 && e <= tiles * 16)).toBe(true);
        // No feature stands twice; newlines may.
        const features = entries.filter((e) => e < tiles * 16);
        expect(new Set(features).size).toBe(features.length);
      });
    }),
    { numRuns: 50 },
  );
});

test('Qwen2-VL: any size from 1 to 4000 under any limits, of the checkpoint or of the call', async () => {
  const any = fc.integer({ min: 1, max: 4000 });
  const limits = fc.tuple(fc.integer({ min: 1, max: 200000 }), fc.integer({ min: 784, max: 2000000 }));
  await fc.assert(
    fc.asyncProperty(
      limits,
      fc.boolean(),
      fc.array(fc.tuple(any, any), { minLength: 1, maxLength: 40 }),
      async (pair, call, given) => {
        const [minPixels, maxPixels] = pair[0] <= pair[1] ? pair : [pair[1], pair[0]];
        const base = configs.get('qwen2_vl')!;
        const config = call ? base : variant(base, {}, { min_pixels: minPixels, max_pixels: maxPixels });
        const kwargs = call ? { minPixels, maxPixels } : {};
        const images = given
          .filter(([h, w]) => Math.max(h, w) <= 200 * Math.min(h, w))
          .map(([height, width]) => ({ ...picture(1, 1), height, width }));
        const counts = await placeholders(config, images, kwargs);
        const ids = [...counts.flatMap((n) => [...new Array<number>(n).fill(tokenOf(config)), 0]), 0];
        let start = 0;
        const most = largestPicture(28, minPixels, maxPixels);
        const items = images.map(({ height, width }, i) => {
          const [h, w] = smartResize(height, width, 28, minPixels, maxPixels);
          const [r, c] = [h / 14, w / 14];
          expect((r * c) / 4).toBe(counts[i]);
          expect(counts[i]).toBeLessThanOrEqual(most.rows * most.cols);
          const tensors = {
            pixelValues: new Tensor('float32', [r * c, 0], new Float32Array(0)),
            imageGridThw: int64(1, r, c),
          };
          const prepared = Qwen2Vl.prepare(new InputContext(config), { modality: 'image', tensors });
          expect(prepared.patchPositions!.shape).toEqual([2, r * c]);
          const ranges: [number, number][] = [[start, counts[i]!]];
          start += counts[i]! + 1;
          return { modality: 'image', tensors, ranges };
        });
        if (items.length === 0) return;
        const { positions, delta } = Qwen2Vl.positions(new InputContext(config), ids, items)!;
        expect(Math.max(...positions) + 1 - ids.length).toBe(delta);
      },
    ),
    { numRuns: 50 },
  );
});
