/** Qwen3-VL: the table of positions stretched over a picture, and features for several layers of the text model. */
import { completeConfig } from '../../dist/config/hf-config';
import { InputContext, INPUT_REGISTRY, Tensor } from '../../dist/index';
import { Corners, alignedPlaces, centredPlaces } from '../../dist/models/bilinear';
import { Qwen3VLForConditionalGeneration as Qwen3Vl } from '../../dist/models/qwen3_vl';
import { dumpProgram, traceModel } from '../../dist/nn';
import { codeOf, fixture } from '../registries/support';

const grid = (...thw: number[]): Tensor => new Tensor('int64', [1, 3], BigInt64Array.from(thw, BigInt));

test('aligned places begin and end with the side; of one side they are itself', () => {
  expect(alignedPlaces(8, 8).map(({ low, part }) => [low, part])).toEqual([...Array(8).keys()].map((i) => [i, 0]));
  expect(alignedPlaces(3, 5).map(({ low, high, part }) => [low, high, part])).toEqual([
    [0, 1, 0],
    [0, 1, 0.5],
    [1, 2, 0],
    [1, 2, 0.5],
    [2, 2, 0],
  ]);
  expect(alignedPlaces(5, 1)).toEqual([{ low: 0, high: 1, part: 0 }]);
});

test('centred places lie in the middle of their parts', () => {
  expect(centredPlaces(4, 2).map(({ low, part }) => low + part)).toEqual([0.5, 2.5]);
  expect(centredPlaces(2, 4).map(({ low, high, part }) => [low, high, part])).toEqual([
    [0, 1, 0],
    [0, 1, 0.25],
    [0, 1, 0.75],
    [1, 1, 0.25],
  ]);
});

test('the corners of a row weigh 1 together', () => {
  const corners = new Corners(2);
  corners.copy(0, 7);
  corners.blend(1, { low: 1, high: 2, part: 0.25 }, { low: 0, high: 1, part: 0.5 }, (y, x) => 10 * y + x);
  expect([...corners.index]).toEqual([7, 10, -1, 11, -1, 20, -1, 21]);
  expect([...corners.weight]).toEqual([1, 0.375, 0, 0.375, 0, 0.125, 0, 0.125]);
});

test('patches read the table in the order of their blocks, every frame alike', async () => {
  const context = new InputContext(await fixture('qwen3_vl'));
  const tensors = { pixelValues: new Tensor('float32', [32, 0], new Float32Array(0)), imageGridThw: grid(2, 2, 8) };
  const prepared = Qwen3Vl.prepare(context, { modality: 'image', tensors });
  // Eight columns lie on the table's eight; two rows on its first and last.
  const first = (prepared.tableIndex!.data as Int32Array).slice(0, 32);
  const frame = [0, 1, 56, 57, 2, 3, 58, 59, 4, 5, 60, 61, 6, 7, 62, 63];
  expect([...first]).toEqual([...frame, ...frame]);
  expect([...(prepared.tableWeight!.data as Float32Array)].every((w, i) => w === (i < 32 ? 1 : 0))).toBe(true);
});

test('embeddings are as wide as all layers that take features', async () => {
  const config = await fixture('qwen3_vl');
  const give = (width: number) =>
    INPUT_REGISTRY.processInput(config, {
      promptTokenIds: [312],
      multiModalData: {
        image: {
          imageEmbeds: new Tensor('float32', [4, width], new Float32Array(4 * width)),
          imageGridThw: grid(1, 4, 4),
        },
      } as never,
    });
  expect((await give(3 * 64)).promptTokenIds).toHaveLength(4);
  expect(await codeOf(() => give(64))).toBe('ERR_IMAGE_EMBEDS');
});

test('features are added behind the first layers; axes turn frequencies in turn', async () => {
  const { hfConfig } = await fixture('qwen3_vl');
  const traced = traceModel(Qwen3Vl as never, hfConfig);
  expect(traced.featureWidth).toBe(3 * 64);
  const added = traced.text.ops.filter((op) => op.op === 'scatter_rows').map((op) => op.attrs?.add ?? 0);
  expect(added).toEqual([0, 1, 1]);
  expect(dumpProgram(traced.text)).toContain('sections=[4, 2, 2], interleaved=1');
});

test.each([
  ['deepstack_visual_indexes', [0, 4]],
  ['deepstack_visual_indexes', [0, 1, 2, 3]],
  ['deepstack_visual_indexes', [-1]],
  ['deepstack_visual_indexes', 3],
  ['num_position_embeddings', 63],
])('a vision_config.%s of %j is refused at load, by name', async (field, value) => {
  const { hfConfig } = await fixture('qwen3_vl');
  const config = { ...hfConfig, vision_config: { ...(hfConfig.vision_config as object), [field]: value } };
  const load = () => traceModel(Qwen3Vl as never, completeConfig(config));
  expect(load).toThrow(expect.objectContaining({ code: 'ERR_CONFIG', details: { field: `vision_config.${field}` } }));
});
