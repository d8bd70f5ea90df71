/** LLaVA-NeXT's hooks: what the configuration must say, items in every form, and programs. */
import { InputContext, INPUT_REGISTRY, MULTIMODAL_REGISTRY, Tensor } from '../../dist/index';
import { LlavaNextForConditionalGeneration as LlavaNext } from '../../dist/models/llava_next';
import { traceModel } from '../../dist/nn';
import { codeOf, fixture, picture } from '../registries/support';

const load = () => fixture('llava-next-mistral', { limitMmPerPrompt: { image: 3 } });
type Config = Awaited<ReturnType<typeof load>>;
const withConfig = (config: Config, change: object): Config =>
  Object.assign(Object.create(Object.getPrototypeOf(config) as object) as Config, config, {
    hfConfig: { ...config.hfConfig, ...change },
  });
const int64 = (...values: number[]): Tensor => new Tensor('int64', [values.length], BigInt64Array.from(values, BigInt));
const pixels = (tiles: number): Tensor =>
  new Tensor('float32', [tiles, 3, 56, 56], new Float32Array(tiles * 3 * 56 * 56));

const tokensOf = async (config: Config, image: unknown, count = 1): Promise<number> =>
  (
    await INPUT_REGISTRY.processInput(config, {
      promptTokenIds: new Array<number>(count).fill(384),
      multiModalData: { image } as never,
    })
  ).promptTokenIds.length;

test('the dummy data is the largest picture', async () => {
  const config = await load();
  MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
  // 16 of the whole picture, 8 x 8 of four tiles, 8 newlines.
  expect(MULTIMODAL_REGISTRY.getMaxTokensByModality(config)).toMatchObject({ image: 3 * 88 });
  const dummy = await INPUT_REGISTRY.dummyDataForProfiling(config, 300, MULTIMODAL_REGISTRY);
  expect(dummy.promptTokenIds.filter((id) => id === 384)).toHaveLength(264);
  expect(dummy.promptTokenIds).toHaveLength(300);
  expect(await tokensOf(config, dummy.multiModalData!.image, 3)).toBe(264);
});

test('pictures of several sizes, mapped ones and embeddings in one prompt', async () => {
  const config = await load();
  const embeds = new Tensor('float32', [5, 64], new Float32Array(320));
  const mapped = { pixelValues: pixels(3), imageSizes: int64(17, 31) };
  expect(await tokensOf(config, [picture(31, 17), embeds, mapped], 3)).toBe(52 + 5 + 52);
  expect(await tokensOf(config, [embeds, embeds], 2)).toBe(10);
  const stacked = new Tensor('float32', [2, 5, 64], new Float32Array(640));
  expect(await tokensOf(config, stacked, 2)).toBe(10);
});

test('one index makes unpadding and newlines; padding tiles are never named', async () => {
  const config = await load();
  const prepare = (tiles: number, ...size: number[]): number[] => {
    const tensors = { pixelValues: pixels(tiles), imageSizes: int64(...size) };
    const prepared = LlavaNext.prepare(new InputContext(config), { modality: 'image', tensors });
    return [...(prepared.featureIndex!.data as Int32Array)];
  };
  // 112 high, 56 wide: two tiles above each other, nothing cut.
  const exact = prepare(3, 112, 56);
  expect(exact).toHaveLength(16 + 32 + 8);
  expect([exact[16], exact[20], exact.at(-1)]).toEqual([16, 48, 48]);
  const padded = prepare(5, 112, 56);
  expect(padded.map((i) => (i === 80 ? 48 : i))).toEqual(exact);
  // A picture without tiles of its own is its whole view and one newline.
  expect(prepare(1, 56, 56)).toEqual(Array.from({ length: 17 }, (_, i) => i));
  expect(LlavaNext.prepare(new InputContext(config), { modality: 'image', tensors: {} })).toEqual({});
});

test('mapped pictures that contradict the configuration are refused', async () => {
  const config = await load();
  const refused = (tensors: Record<string, Tensor>) => codeOf(() => tokensOf(config, tensors));
  expect(await refused({ pixelValues: pixels(2), imageSizes: int64(112, 112) })).toBe('ERR_IMAGE_SIZE');
  expect(await refused({ pixelValues: pixels(5) })).toBe('ERR_IMAGE_SIZE');
  expect(await refused({ pixelValues: pixels(5), imageSizes: int64(0, 112) })).toBe('ERR_IMAGE_SIZE');
  const floats = new Tensor('float32', [2], Float32Array.of(56, 56));
  expect(await refused({ pixelValues: pixels(5), imageSizes: floats })).toBe('ERR_IMAGE_SIZE');
});

test.each([
  ['pinpoints that are no multiples of the tile', { image_grid_pinpoints: [[56, 100]] }, 'ERR_CONFIG'],
  ['pinpoints that are no pairs', { image_grid_pinpoints: [[56]] }, 'ERR_PROCESSOR_CONFIG'],
  ['a strategy that keeps the class token', { vision_feature_select_strategy: 'full' }, 'ERR_CONFIG'],
])('%s are refused at load', async (_, change, code) => {
  const config = withConfig(await load(), change);
  expect(await codeOf(() => traceModel(LlavaNext as never, config.hfConfig))).toBe(code);
  expect(await codeOf(() => tokensOf(config, picture(8, 8)))).toBe(code);
});

test('the encoder ends with one choice of rows; the text program is LLaVA’s', async () => {
  const { hfConfig } = await load();
  const traced = traceModel(LlavaNext as never, hfConfig);
  const { ops } = traced.encoders[0]!.program!;
  expect(ops.slice(-2).map((op) => op.op)).toEqual(['concat', 'gather_rows']);
  expect(traced.encoders.map((e) => e.program === null)).toEqual([false, true]);
  expect(traced.placeholderTokenIds).toEqual({ image: 384 });
});
