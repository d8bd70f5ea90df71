/** mmProcessorKwargs: the engine's and the request's, and which hook takes which (v0.6.3's tests/multimodal/test_processor_kwargs.py). */
import { z } from 'zod';
import { ImageProcessor, INPUT_REGISTRY, MULTIMODAL_REGISTRY, type Tensor } from '../../dist/index';
import type { HookOptions } from '../../dist/config/hooks';
import { codeOf, configOf, fixture, picture, registries, shapes, warningsOf } from './support';

class Model {}

type Kwargs = Record<string, unknown>;

/** Every hook answers with the kwarg that it was given, or 4. */
async function answers(engine: Kwargs, request: Kwargs, options: HookOptions = { kwargs: ['numCrops'] }) {
  const { multiModal, input } = registries();
  const crops = (kwargs: Kwargs): number => (kwargs.numCrops as number | undefined) ?? 4;
  multiModal.registerImageInputMapper((_ctx, _data, kwargs) => ({ crops: crops(kwargs) }), options)(Model);
  multiModal.registerMaxImageTokens((_ctx, kwargs) => crops(kwargs), options)(Model);
  input.registerDummyData(
    (_ctx, _n, _counts, kwargs) => ({ promptTokenIds: new Array<number>(crops(kwargs)).fill(0) }),
    options,
  )(Model);
  input.registerInputProcessor((_ctx, _inputs, kwargs) => ({ promptTokenIds: [crops(kwargs)] }), options)(Model);
  const config = configOf(Model, { kwargs: engine });
  multiModal.initMmLimitsPerPrompt(config);
  const mapped = await multiModal.mapInput(config, { image: picture(1, 1) }, request);
  return {
    mapper: Number(((mapped.crops as Tensor).data as BigInt64Array)[0]),
    processor: (await input.processInput(config, { promptTokenIds: [], mmProcessorKwargs: request })).promptTokenIds[0],
    maxTokens: multiModal.getMaxMultimodalTokens(config),
    dummy: (await input.dummyDataForProfiling(config, 0, multiModal)).promptTokenIds.length,
  };
}

const none = { mapper: 4, processor: 4, maxTokens: 4, dummy: 4 };

test('hooks have their own default where nobody says otherwise', async () => {
  expect(await answers({}, {})).toEqual(none);
});

test('the engine’s reach every hook', async () => {
  expect(await answers({ numCrops: 16 }, {})).toEqual({ mapper: 16, processor: 16, maxTokens: 16, dummy: 16 });
});

test('the request’s win, and do not reach what is computed at load', async () => {
  expect(await answers({ numCrops: 4 }, { numCrops: 16 })).toEqual({
    mapper: 16,
    processor: 16,
    maxTokens: 4,
    dummy: 4,
  });
  expect(await answers({}, { numCrops: 16 })).toMatchObject({ mapper: 16, processor: 16, maxTokens: 4 });
});

test('the spelling of checkpoints and HTTP bodies is the same option', async () => {
  expect(await answers({ num_crops: 16 }, {})).toEqual({ mapper: 16, processor: 16, maxTokens: 16, dummy: 16 });
});

test('what a hook does not declare is dropped, with a warning that has the nearest name', async () => {
  const warnings = await warningsOf(async () => {
    expect(await answers({ numCrop: 16 }, { unrelated: 16 })).toEqual(none);
  });
  expect(warnings.every((w) => w.code === 'WARN_MM_PROCESSOR_KWARGS')).toBe(true);
  const of = (name: string): string[] => warnings.map((w) => w.message).filter((m) => m.includes(`.${name}`));
  expect(of('numCrop').every((m) => m.includes('did you mean numCrops'))).toBe(true);
  expect(of('unrelated')).toHaveLength(1);
  // Declared by nobody: the parameters that are always there are no options either.
  await warningsOf(async () => expect(await answers({ ctx: 16, data: 16, inputs: 16 }, {}, {})).toEqual(none));
});

test('keys that would reach a prototype are never taken', async () => {
  const hostile = JSON.parse('{"__proto__": {"numCrops": 16}, "constructor": 1}') as Kwargs;
  const declared = { kwargs: ['numCrops', '__proto__', 'constructor'] };
  await warningsOf(async () => expect(await answers({}, hostile, declared)).toEqual(none));
});

test('a zod object also validates, since requests come from outside', async () => {
  const options = { kwargs: z.object({ numCrops: z.number().int().max(16).optional() }) };
  expect(await answers({}, { numCrops: 16 }, options)).toMatchObject({ mapper: 16 });
  for (const numCrops of [17, '4', null, 1.5])
    expect(await codeOf(() => answers({}, { numCrops }, options))).toBe('ERR_MM_PROCESSOR_KWARGS');
});

test('the default mapper hands all of them to the image processor', async () => {
  const { multiModal } = registries();
  multiModal.registerImageInputMapper()(Model);
  const config = configOf(Model, { kwargs: { cropSize: { height: 4, width: 4 } } });
  multiModal.initMmLimitsPerPrompt(config);
  const map = (kwargs: Kwargs) => multiModal.mapInput(config, { image: picture(9, 9) }, kwargs);
  expect(shapes(await map({}))).toEqual({ pixelValues: [1, 3, 4, 4] });
  expect(shapes(await map({ crop_size: { height: 2, width: 6 } }))).toEqual({ pixelValues: [1, 3, 2, 6] });
  expect(await codeOf(() => map({ cropSize: -1 }))).toBe('ERR_PROCESSOR_CONFIG');
});

describe('Qwen2-VL: sizes are options of engine and request', () => {
  const image = picture(300, 100);
  const count = async (
    engine: Kwargs,
    request: Kwargs,
  ): Promise<{ placeholders: number; patches: number; max: number }> => {
    const config = await fixture('qwen2_vl', { mmProcessorKwargs: engine });
    MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
    const { image_token_index: token } = config.hfConfig as { image_token_index: number };
    const processed = await INPUT_REGISTRY.processInput(config, {
      promptTokenIds: [token],
      multiModalData: { image },
      mmProcessorKwargs: request,
    });
    const mapped = await MULTIMODAL_REGISTRY.mapInput(config, { image }, request);
    return {
      placeholders: processed.promptTokenIds.length,
      patches: (mapped.pixelValues as Tensor).shape[0]! / 4,
      max: MULTIMODAL_REGISTRY.getPlugin('image').getMaxMultimodalTokens(config),
    };
  };

  test.each<[Kwargs, Kwargs, number, number]>([
    [{}, {}, 12, 48],
    [{ maxPixels: 50176 }, {}, 44, 113],
    [{ max_pixels: 50176 }, {}, 44, 113],
    [{ maxPixels: 50176 }, { maxPixels: 9408 }, 12, 113],
    [{}, { maxPixels: 50176 }, 44, 48],
    [{}, { size: { shortest_edge: 3136, longest_edge: 50176 } }, 44, 48],
  ])('engine %j, request %j', async (engine, request, tokens, max) => {
    expect(await count(engine, request)).toEqual({ placeholders: tokens, patches: tokens, max });
  });

  test('minPixels and maxPixels of the file win over its size, as those of a call do', async () => {
    const file = { image_processor_type: 'Qwen2VLImageProcessor', size: { shortest_edge: 3136, longest_edge: 9408 } };
    const patches = async (settings: Kwargs, kwargs: Kwargs = {}): Promise<unknown> =>
      (await ImageProcessor.fromConfig(settings).preprocess([image], kwargs)).pixelValues!.shape[0];
    expect(await patches(file)).toBe(48);
    expect(await patches({ ...file, max_pixels: 50176 })).toBe(176);
    expect(await patches(file, { maxPixels: 50176 })).toBe(176);
  });
});
