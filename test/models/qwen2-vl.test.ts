/** Qwen2-VL's hooks: positions, index arrays, sizes, and both generations of its configuration. */
import { InputContext, INPUT_REGISTRY, MULTIMODAL_REGISTRY, Tensor } from '../../dist/index';
import { completeConfig } from '../../dist/config/hf-config';
import { Qwen2VLForConditionalGeneration as Qwen2Vl } from '../../dist/models/qwen2_vl';
import { qwen2VlGrid } from '../../dist/multimodal/processors/qwen2-vl';
import { ImageProcessor } from '../../dist/index';
import { dumpProgram, traceModel } from '../../dist/nn';
import { codeOf, fixture, picture } from '../registries/support';

const grid = (...thw: number[]): Tensor => new Tensor('int64', [1, 3], BigInt64Array.from(thw, BigInt));
const item = (thw: number[], ...ranges: [number, number][]) => ({
  modality: 'image',
  tensors: { imageGridThw: grid(...thw) },
  ranges,
});

async function positions(
  length: number,
  items: ReturnType<typeof item>[],
): Promise<{ axes: number[][]; delta: unknown }> {
  const context = new InputContext(await fixture('qwen2_vl'));
  const { positions: flat, delta } = Qwen2Vl.positions(context, new Array<number>(length).fill(0), items)!;
  return { axes: [0, 1, 2].map((axis) => [...flat.slice(axis * length, (axis + 1) * length)]), delta };
}

test('text advances all axes, a picture is a grid, and text goes on behind its longer side', async () => {
  // Two tokens, a picture of 4 x 6 patches (2 x 3 rows), two tokens.
  expect(await positions(10, [item([1, 4, 6], [2, 6])])).toEqual({
    axes: [
      [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
      [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
      [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ],
    delta: -3,
  });
});

test('two pictures, given in any order, one right behind the other', async () => {
  const items = [item([1, 2, 2], [5, 1]), item([1, 4, 4], [1, 4])];
  expect((await positions(7, items)).axes[1]).toEqual([0, 1, 1, 2, 2, 3, 4]);
  expect((await positions(7, items)).delta).toBe(-2);
});

test('frames advance the time axis', async () => {
  expect(await positions(8, [item([2, 4, 4], [0, 8])])).toEqual({
    axes: [
      [0, 0, 0, 0, 1, 1, 1, 1],
      [0, 0, 1, 1, 0, 0, 1, 1],
      [0, 1, 0, 1, 0, 1, 0, 1],
    ],
    delta: -6,
  });
});

test('placeholders that do not fit the grid are refused', async () => {
  expect(await codeOf(() => positions(9, [item([1, 4, 4], [0, 5])]))).toBe('ERR_PLACEHOLDER_COUNT');
  expect(await codeOf(() => positions(9, [item([1, 4, 4], [0, 2], [3, 2])]))).toBe('ERR_PLACEHOLDER_COUNT');
});

test('rows and columns of patches come block by block, a frame is a segment', async () => {
  const config = await fixture('qwen2_vl');
  const tensors = { pixelValues: new Tensor('float32', [16, 1], new Float32Array(16)), imageGridThw: grid(2, 2, 4) };
  const prepared = Qwen2Vl.prepare(new InputContext(config), { modality: 'image', tensors });
  const rows = [0, 0, 1, 1, 0, 0, 1, 1];
  const cols = [0, 1, 0, 1, 2, 3, 2, 3];
  expect(prepared.patchPositions!.shape).toEqual([2, 16]);
  expect([...(prepared.patchPositions!.data as Int32Array)]).toEqual([...rows, ...rows, ...cols, ...cols]);
  expect([...(prepared.cuSeqlens!.data as Int32Array)]).toEqual([0, 8, 16]);
});

test('embeddings come with their grid, since positions depend on it', async () => {
  const config = await fixture('qwen2_vl');
  const imageEmbeds = new Tensor('float32', [4, 64], new Float32Array(256));
  const { promptTokenIds } = await INPUT_REGISTRY.processInput(config, {
    promptTokenIds: [342],
    multiModalData: { image: { imageEmbeds, imageGridThw: grid(1, 4, 4) } as never },
  });
  expect(promptTokenIds).toHaveLength(4);
  const bare = { modality: 'image', tensors: { imageEmbeds }, ranges: [[0, 4]] as [number, number][] };
  expect(await codeOf(() => Qwen2Vl.positions(new InputContext(config), [0, 0, 0, 0], [bare]))).toBe('ERR_IMAGE_SIZE');
  const odd = { ...bare, tensors: { imageEmbeds, imageGridThw: grid(1, 3, 4) } };
  expect(await codeOf(() => Qwen2Vl.positions(new InputContext(config), [0, 0, 0, 0], [odd]))).toBe('ERR_IMAGE_SIZE');
});

test('the dummy data is the largest picture: at 9408 pixels one of 1 x 48, not of 3 x 4', async () => {
  const config = await fixture('qwen2_vl', { limitMmPerPrompt: { image: 2, video: 0 } });
  MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
  expect(MULTIMODAL_REGISTRY.getMaxMultimodalTokens(config)).toBe(96);
  const dummy = await INPUT_REGISTRY.dummyDataForProfiling(config, 100, MULTIMODAL_REGISTRY);
  expect(dummy.promptTokenIds.filter((id) => id === 342)).toHaveLength(96);
  const [first] = dummy.multiModalData!.image as unknown as { width: number; height: number }[];
  expect(first!.width).toBe(200 * first!.height);
});

// The sizes of upstream's asset: 5704 patches, and 330 tokens when at most 512 x 512 pixels are allowed.
test.each([
  [{}, 1426],
  [{ minPixels: 64 ** 2, maxPixels: 512 ** 2 }, 330],
])('a picture of 1288 x 875 with %j: %d tokens', (kwargs, tokens) => {
  const settings = { image_processor_type: 'Qwen2VLImageProcessor', min_pixels: 3136, max_pixels: 12845056 };
  const [rows, cols] = qwen2VlGrid(875, 1288, ImageProcessor.fromConfig(settings).config(kwargs));
  expect((rows * cols) / 4).toBe(tokens);
});

test('a picture that is not resized must be whole blocks', async () => {
  const settings = { image_processor_type: 'Qwen2VLImageProcessor', do_resize: false };
  const preprocess = (width: number) => ImageProcessor.fromConfig(settings).preprocess([picture(width, 56)]);
  expect((await preprocess(84)).imageGridThw!.data).toEqual(BigInt64Array.of(1n, 4n, 6n));
  expect(await codeOf(() => preprocess(83))).toBe('ERR_IMAGE_SIZE');
});

test('both generations of config.json leave the same programs', async () => {
  const { hfConfig: older } = await fixture('qwen2_vl');
  const { text_config: text, vision_config: vision, ...rest } = older as Record<string, Record<string, unknown>>;
  const { rope_theta, rope_scaling, ...fields } = text!;
  const newer = completeConfig({
    ...rest,
    vision_config: { ...vision, model_type: 'qwen2_vl' },
    text_config: { ...fields, rope_parameters: { rope_theta, rope_type: 'default', ...(rope_scaling as object) } },
  });
  const dump = (config: object): string => {
    const { text: program, encoders } = traceModel(Qwen2Vl as never, config);
    return [program, ...encoders.flatMap((e) => e.program ?? [])].map(dumpProgram).join('');
  };
  expect(dump(newer)).toBe(dump(older));
  expect(dump(older)).toContain('sections=[2, 3, 3]');
  expect(dump(older)).toContain('sections=[4, 4]');
  const { rope_scaling: _, ...without } = text!;
  expect(await codeOf(() => dump({ ...older, text_config: without }))).toBe('ERR_CONFIG');
});
