import { join } from 'node:path';
import { ModelConfig } from '../../dist/config';
import { InputContext, INPUT_REGISTRY, MULTIMODAL_REGISTRY, Tensor } from '../../dist/index';
import '../../dist/models/registry';
import { selectedRows } from '../../dist/models/vision-tower';
import { traceModel } from '../../dist/nn';
import { fixtureModels } from './fixtures';

const folder = join(fixtureModels, 'llava-1.5');
const load = () => ModelConfig.load(folder, { limitMmPerPrompt: { image: 2 } });

test('one class leaves a text program and an encoder', async () => {
  const config = await load();
  const traced = traceModel(config.modelClass as never, config.hfConfig);
  expect(traced).toMatchObject({
    vocabSize: 400,
    kvLayers: 3,
    kvHeads: 2,
    headDimK: 16,
    headDimV: 16,
    featureWidth: 64,
    positionAxes: 1,
  });
  expect(traced.placeholderTokenIds).toEqual({ image: 384 });
  // vision_feature_layer -2 of three blocks: the last block and the final norm are never made.
  const weights = traced.encoders[0]!.program!.weights.map((w) => w.name);
  expect(weights.some((n) => n.includes('layers.1.'))).toBe(true);
  expect(weights.some((n) => n.includes('layers.2.') || n.includes('post_layernorm'))).toBe(false);
});

test('the registered hooks', async () => {
  const config = await load();
  MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
  expect(MULTIMODAL_REGISTRY.getMaxTokensByModality(config)).toMatchObject({ image: 32 });
  const dummy = await INPUT_REGISTRY.dummyDataForProfiling(config, 100, MULTIMODAL_REGISTRY);
  expect(dummy.promptTokenIds.filter((id) => id === 384)).toHaveLength(32);
  expect(dummy.promptTokenIds).toHaveLength(100);
  expect(dummy.multiModalData!.image).toHaveLength(2);
});

test('placeholders become as many as features', async () => {
  const config = await load();
  const picture = { width: 1, height: 1, channels: 3 as const, data: new Uint8Array(3) };
  const process = async (ids: number[], image: unknown) =>
    (await INPUT_REGISTRY.processInput(config, { promptTokenIds: ids, multiModalData: { image } as never }))
      .promptTokenIds;
  expect(await process([1, 384, 2], picture)).toEqual([1, ...new Array<number>(16).fill(384), 2]);
  expect(await process([384, 5, 384], [picture, picture])).toHaveLength(33);
  const embeds = new Tensor('float32', [2, 7, 64], new Float32Array(2 * 7 * 64));
  expect(await process([384, 5, 384], embeds)).toHaveLength(15);
  await expect(process([1, 2], picture)).rejects.toMatchObject({ code: 'ERR_PLACEHOLDER_COUNT' });
  await expect(process([384, 384], picture)).rejects.toMatchObject({ code: 'ERR_PLACEHOLDER_COUNT' });
  const narrow = new Tensor('float32', [7, 32], new Float32Array(7 * 32));
  await expect(process([384], narrow)).rejects.toMatchObject({ code: 'ERR_IMAGE_EMBEDS' });
  expect(new InputContext(config).getHfConfig<{ image_token_index: number }>('llava').image_token_index).toBe(384);
});

test.each([
  ['a tower that is unknown', { model_type: 'convnext' }, 'vision_config.model_type'],
  ['a picture that is no whole number of CLIP’s patches', { image_size: 60 }, 'vision_config.image_size'],
])('%s is refused at load', async (_, change, field) => {
  const config = await load();
  const vision = { ...(config.hfConfig.vision_config as object), ...change };
  expect(() => traceModel(config.modelClass as never, { ...config.hfConfig, vision_config: vision })).toThrow(
    expect.objectContaining({ code: 'ERR_CONFIG', details: { field } }),
  );
});

test('both towers and strategies: 576 and 577 rows of CLIP at 336, 729 of SigLIP at 384, which cuts what is left over', () => {
  const clip = { model_type: 'clip_vision_model', image_size: 336, patch_size: 14 } as never;
  const siglip = { model_type: 'siglip_vision_model', image_size: 384, patch_size: 14 } as never;
  expect([selectedRows(clip, 'default'), selectedRows(clip, 'full')]).toEqual([576, 577]);
  expect([selectedRows(siglip, 'default'), selectedRows(siglip, 'full')]).toEqual([728, 729]);
});
