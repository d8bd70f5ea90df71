/** LLaVA-OneVision: maps that are scaled down, pictures that are one tile each, and who decides which. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { InputContext, INPUT_REGISTRY, LLM, MULTIMODAL_REGISTRY, Tensor } from '../../dist/index';
import { LlavaOnevisionForConditionalGeneration as Onevision } from '../../dist/models/llava_onevision';
import { selectBestResolution } from '../../dist/multimodal/processors/llava-next';
import { traceModel } from '../../dist/nn';
import { codeOf, fixture, picture } from '../registries/support';
import { fixtureModels } from './fixtures';

const token = 303;
const whole = 9;
const load = () => fixture('llava_onevision', { limitMmPerPrompt: { image: 3 } });
type Config = Awaited<ReturnType<typeof load>>;
const withConfig = (config: Config, change: object): Config =>
  Object.assign(Object.create(Object.getPrototypeOf(config) as object) as Config, config, {
    hfConfig: { ...config.hfConfig, ...change },
  });

const process = (config: Config, image: readonly unknown[], mmProcessorKwargs?: Record<string, unknown>) =>
  INPUT_REGISTRY.processInput(config, {
    promptTokenIds: new Array<number>(image.length).fill(token),
    multiModalData: { image } as never,
    ...(mmProcessorKwargs ? { mmProcessorKwargs } : {}),
  });

test('a picture alone is cut; each of several is one tile and a newline, and the mapper is told', async () => {
  const config = await load();
  const alone = await process(config, [picture(97, 70)]);
  expect([alone.promptTokenIds.length, alone.mmProcessorKwargs]).toEqual([86, undefined]);
  const several = await process(config, [picture(64, 48), picture(97, 70)], { doResize: true });
  expect(several.promptTokenIds).toHaveLength(2 * (whole + 1));
  expect(several.mmProcessorKwargs).toEqual({ doResize: true, visionAspectRatio: 'pad' });
});

test('visionAspectRatio decides, where it is given', async () => {
  const config = await load();
  const cut = { visionAspectRatio: 'anyres_max_9' };
  const several = await process(config, [picture(64, 48), picture(97, 70)], cut);
  expect([several.promptTokenIds.length, several.mmProcessorKwargs]).toEqual([69 + 86, cut]);
  expect((await process(config, [picture(97, 70)], { visionAspectRatio: 'pad' })).promptTokenIds).toHaveLength(10);
  expect(await codeOf(() => process(config, [picture(97, 70)], { visionAspectRatio: 'anyres_max_4' }))).toBe(
    'ERR_MM_PROCESSOR_KWARGS',
  );
});

test('the dummy data is the largest picture; of one tile where the engine pads', async () => {
  for (const [kwargs, tokens] of [
    [{}, 121],
    [{ visionAspectRatio: 'pad' }, 10],
  ] as const) {
    const config = await fixture('llava_onevision', {
      limitMmPerPrompt: { image: 1, video: 0 },
      mmProcessorKwargs: kwargs,
    });
    MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
    expect(MULTIMODAL_REGISTRY.getMaxMultimodalTokens(config)).toBe(tokens);
    const dummy = await INPUT_REGISTRY.dummyDataForProfiling(config, 200, MULTIMODAL_REGISTRY);
    expect(dummy.promptTokenIds.filter((id) => id === token)).toHaveLength(tokens);
    const images = dummy.multiModalData!.image as unknown as unknown[];
    expect((await process(config, images)).promptTokenIds).toHaveLength(tokens);
  }
});

test('any size under any pinpoints: every row is a blend of the picture’s features, or a newline', async () => {
  const base = await load();
  const any = fc.integer({ min: 1, max: 4000 });
  const count = fc.integer({ min: 1, max: 6 });
  const points = fc.uniqueArray(fc.tuple(count, count), { minLength: 1, maxLength: 8, selector: String });
  await fc.assert(
    fc.asyncProperty(points, any, any, async (grids, height, width) => {
      const pinpoints = grids.map(([h, w]) => [24 * h, 24 * w] as const);
      const config = withConfig(base, { image_grid_pinpoints: pinpoints });
      const rows = (await process(config, [{ ...picture(1, 1), height, width }])).promptTokenIds.length;
      const [h, w] = selectBestResolution(height, width, pinpoints);
      const tiles = 1 + (h / 24) * (w / 24);
      const tensors = {
        pixelValues: new Tensor('float32', [tiles, 0, 24, 24], new Float32Array(0)),
        imageSizes: new Tensor('int64', [2], BigInt64Array.of(BigInt(height), BigInt(width))),
      };
      const prepared = Onevision.prepare(new InputContext(config), { modality: 'image', tensors });
      expect([prepared.featureIndex!.shape, prepared.featureWeight!.shape]).toEqual([
        [4, rows],
        [4, rows],
      ]);
      const index = prepared.featureIndex!.data as Int32Array;
      const weight = prepared.featureWeight!.data as Float32Array;
      for (let i = 0; i < rows; i++) {
        const corners = [0, 1, 2, 3].map((k) => [index[k * rows + i]!, weight[k * rows + i]!] as const);
        const known = corners.filter(([from]) => from >= 0);
        expect(known.every(([from, part]) => part >= 0 && from <= tiles * whole)).toBe(true);
        // Products of two float32 parts and of what they leave of 1.
        expect(Math.abs(known.reduce((sum, [, part]) => sum + part, 0) - 1)).toBeLessThan(2e-7);
        if (known.some(([from]) => from === tiles * whole)) expect(known).toHaveLength(1);
      }
    }),
    { numRuns: 40 },
  );
});

test.each([
  ['an aspect ratio that is none', { vision_aspect_ratio: 'square' }],
  ['no tiles', { vision_aspect_ratio: 'anyres_max_0' }],
  ['pinpoints that are no multiples of the tile', { image_grid_pinpoints: [[24, 50]] }],
])('%s is refused at load', async (_, change) => {
  const { hfConfig } = await load();
  expect(await codeOf(() => traceModel(Onevision as never, { ...hfConfig, ...change }))).toBe('ERR_CONFIG');
});

test('the engine answers about two pictures as the reference does', async () => {
  const folder = join(fixtureModels, 'llava_onevision');
  const { cases } = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as {
    cases: { name: string; prompt: string; images: string[]; greedy: { token_ids: number[] } }[];
  };
  const { prompt, images, greedy } = cases.find((c) => c.name === 'two_images')!;
  const llm = await LLM.load(folder, { dtype: 'float32', limitMmPerPrompt: { image: 2 } });
  const image = images.map((name) => join(fixtureModels, 'images', name));
  const sampling = { temperature: 0, maxTokens: 24, ignoreEos: true };
  const { outputs, usage } = await llm.generate({ prompt, multiModalData: { image } }, sampling);
  await llm.dispose();
  expect([...outputs[0]!.tokenIds]).toEqual(greedy.token_ids);
  expect(usage.imageTokens).toBe(20);
});
