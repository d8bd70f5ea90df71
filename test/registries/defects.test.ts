/** What v0.6.3 gets wrong in its multimodal inputs, and must be right here. */
import { LLM, INPUT_REGISTRY, MULTIMODAL_REGISTRY, Tensor } from '../../dist/index';
import { join } from 'node:path';
import { fixtureModels } from '../models/fixtures';
import { codeOf, fixture, picture } from './support';

const embeds = (...shape: number[]): Tensor =>
  new Tensor('float32', shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.01));

async function process(name: string, promptTokenIds: number[], image: unknown, kwargs?: Record<string, unknown>) {
  const config = await fixture(name, { limitMmPerPrompt: { image: 4 } });
  return INPUT_REGISTRY.processInput(config, {
    promptTokenIds,
    multiModalData: { image } as never,
    ...(kwargs ? { mmProcessorKwargs: kwargs } : {}),
  });
}

test.each([
  ['llava-1.5', 384],
  ['llava-siglip', 383],
  ['llava-next-mistral', 384],
  ['llava_onevision', 303],
  ['qwen2_vl', 342],
  ['qwen2_5_vl', 312],
  ['qwen3_vl', 312],
])('%s: the input processor keeps the request’s mmProcessorKwargs', async (name, token) => {
  const kwargs = { doResize: true };
  const processed = await process(name, [token], picture(56, 56), kwargs);
  expect(processed.mmProcessorKwargs).toEqual(kwargs);
  expect(processed.promptTokenIds.length).toBeGreaterThan(1);
});

test('embeddings of n pictures expand n placeholders, not the first alone', async () => {
  const { promptTokenIds } = await process('llava-1.5', [384, 1, 384, 2, 384], embeds(3, 5, 64));
  const run = new Array<number>(5).fill(384);
  expect(promptTokenIds).toEqual([...run, 1, ...run, 2, ...run]);
});

test('LLaVA-NeXT takes a list of embeddings, of any lengths', async () => {
  const { promptTokenIds } = await process('llava-next-mistral', [384, 1, 384], [embeds(2, 64), embeds(3, 64)]);
  expect(promptTokenIds).toEqual([384, 384, 1, 384, 384, 384]);
});

test('every element of a list is checked, not the first alone', async () => {
  for (const [bad, code] of [
    [embeds(3, 32), 'ERR_IMAGE_EMBEDS'],
    [new Tensor('int32', [3, 64], new Int32Array(192)), 'ERR_IMAGE_EMBEDS'],
    [embeds(0, 64), 'ERR_IMAGE_EMBEDS'],
    ['not decoded', 'ERR_IMAGE_TYPE'],
  ] as const) {
    for (const name of ['llava-1.5', 'llava-next-mistral'])
      expect(await codeOf(() => process(name, [384, 384], [embeds(2, 64), bad]))).toBe(code);
  }
});

describe('what v0.6.3 finds inside forward, which ends its engine, fails one request at submission', () => {
  let llm: LLM;
  const ids = [5, 384, 6];
  beforeAll(async () => {
    llm = await LLM.load(join(fixtureModels, 'llava-next-mistral'), { limitMmPerPrompt: { image: 2 } });
  });
  afterAll(() => llm.dispose());

  const zeros = (tiles: number, side: number): Tensor =>
    new Tensor('float32', [tiles, 3, side, side], new Float32Array(tiles * 3 * side * side));
  const sizes = (...values: number[]): Tensor =>
    new Tensor('int64', [values.length], BigInt64Array.from(values, BigInt));

  test.each<[string, number[], unknown, string]>([
    ['more placeholders than pictures', [384, 5, 384], picture(56, 56), 'ERR_PLACEHOLDER_COUNT'],
    ['more pictures than placeholders', ids, [picture(56, 56), picture(56, 56)], 'ERR_PLACEHOLDER_COUNT'],
    [
      'tiles that the size does not have',
      ids,
      { pixelValues: zeros(2, 56), imageSizes: sizes(112, 112) },
      'ERR_IMAGE_SIZE',
    ],
    ['tiles of another size', ids, { pixelValues: zeros(5, 28), imageSizes: sizes(112, 112) }, 'ERR_MM_INPUTS'],
    ['embeddings of another width', ids, embeds(4, 63), 'ERR_IMAGE_EMBEDS'],
    ['a tile size that the request asks for', ids, picture(56, 56), 'ERR_MM_INPUTS'],
  ])('%s', async (name, promptTokenIds, image, code) => {
    const params = { temperature: 0, maxTokens: 12, ignoreEos: true };
    const good = { promptTokenIds: ids, multiModalData: { image: picture(31, 17, 9) } };
    const alone = await llm.generate(good, params);
    const beside = llm.generate(good, params);
    const kwargs = name.includes('asks for') ? { mmProcessorKwargs: { cropSize: { height: 28, width: 28 } } } : {};
    await expect(
      llm.generate({ promptTokenIds, multiModalData: { image } as never, ...kwargs }, params),
    ).rejects.toMatchObject({ code });
    expect((await beside).outputs[0]!.tokenIds).toEqual(alone.outputs[0]!.tokenIds);
    expect((await llm.generate(good, params)).outputs[0]!.tokenIds).toEqual(alone.outputs[0]!.tokenIds);
  });

  test('pictures and embeddings may be mixed in one prompt, since each is mapped alone', async () => {
    const { usage } = await llm.generate(
      { promptTokenIds: [384, 5, 384], multiModalData: { image: [picture(31, 17), embeds(7, 64)] } },
      { maxTokens: 1 },
    );
    expect(usage).toMatchObject({ imageTokens: 52 + 7, promptTokens: 52 + 7 + 1 });
  });

  test('one picture and a list of one are the same request', async () => {
    const ask = (image: unknown) =>
      llm.generate({ promptTokenIds: ids, multiModalData: { image } as never }, { temperature: 0, maxTokens: 8 });
    const [one, list] = await Promise.all([ask(picture(40, 30, 3)), ask([picture(40, 30, 3)])]);
    expect(one!.outputs[0]!.tokenIds).toEqual(list!.outputs[0]!.tokenIds);
    expect(one!.promptTokenIds).toEqual(list!.promptTokenIds);
  });

  test('a picture that makes the prompt too long is refused with the lengths', async () => {
    const small = await LLM.load(join(fixtureModels, 'llava-next-mistral'), { maxModelLen: 64 });
    try {
      const long = { promptTokenIds: ids, multiModalData: { image: picture(112, 112) } };
      await expect(small.generate(long)).rejects.toMatchObject({
        code: 'ERR_PROMPT_TOO_LONG',
        details: { maxModelLen: 64, received: 90 },
      });
      await small.generate({ promptTokenIds: ids, multiModalData: { image: picture(31, 17) } }, { maxTokens: 1 });
    } finally {
      await small.dispose();
    }
  });
});

test('the maximum of a model is that of its own pinpoints and limits, never a fixed picture’s', async () => {
  for (const [name, most] of [
    ['llava-1.5', 16],
    ['llava-siglip', 16],
    ['llava-next-mistral', 88],
    ['qwen2_vl', 48],
    ['qwen2_5_vl', 48],
    ['qwen3_vl', 48],
  ] as const) {
    const config = await fixture(name);
    MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
    expect([name, MULTIMODAL_REGISTRY.getMaxTokensByModality(config).image]).toEqual([name, most]);
  }
});
