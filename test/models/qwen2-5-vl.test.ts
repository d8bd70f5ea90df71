/** Qwen2.5-VL's windows: which patches stand in which, and that the rows come back in the picture's order. */
import { InputContext, Tensor } from '../../dist/index';
import { Qwen2_5_VLForConditionalGeneration as Qwen25Vl, windows } from '../../dist/models/qwen2_5_vl';
import { traceModel } from '../../dist/nn';
import { codeOf, fixture } from '../registries/support';

const grid = (...thw: number[]): Tensor => new Tensor('int64', [1, 3], BigInt64Array.from(thw, BigInt));

test('windows go row by row, those at the edges are what is left', () => {
  // 3 x 5 blocks in windows of 2 x 2.
  const { order, starts } = windows([1, 3, 5], 2);
  expect(order).toEqual([0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14]);
  expect(starts).toEqual([0, 4, 8, 10, 12, 14, 15]);
});

test('a window that fits exactly leaves no empty one behind, and none spans two frames', () => {
  expect(windows([2, 2, 2], 2)).toEqual({ order: [0, 1, 2, 3, 4, 5, 6, 7], starts: [0, 4, 8] });
});

test('patches, positions and rows move together', async () => {
  const context = new InputContext(await fixture('qwen2_5_vl'));
  const [rows, cols] = [6, 10];
  const tensors = {
    pixelValues: new Tensor('float32', [rows * cols, 0], new Float32Array(0)),
    imageGridThw: grid(1, rows, cols),
  };
  const prepared = Qwen25Vl.prepare(context, { modality: 'image', tensors });
  const of = (name: string): Int32Array => prepared[name]!.data as Int32Array;
  const [order, positions, back] = [of('windowOrder'), of('patchPositions'), of('blockOrder')];
  expect([...order].sort((a, b) => a - b)).toEqual([...order.keys()]);
  // The processor's patch i is of block i / 4; its place follows from that.
  order.forEach((patch, i) => {
    const [block, inside] = [Math.floor(patch / 4), patch % 4];
    expect([positions[i], positions[order.length + i]]).toEqual([
      2 * Math.floor(block / 5) + Math.floor(inside / 2),
      2 * (block % 5) + (inside % 2),
    ]);
  });
  back.forEach((at, block) => expect(order[4 * at]).toBe(4 * block));
  expect([...of('windowSeqlens')]).toEqual([0, 16, 32, 40, 48, 56, 60]);
  expect([...of('cuSeqlens')]).toEqual([0, 60]);
});

test('only the named blocks see the whole picture', async () => {
  const { hfConfig } = await fixture('qwen2_5_vl');
  const { program } = traceModel(Qwen25Vl as never, hfConfig).encoders[0]!;
  const names = new Map(program!.inputs.map(({ name, value }) => [value, name]));
  const seen = program!.ops.filter((op) => op.op === 'attention_varlen').map((op) => names.get(op.in[3]!));
  expect(seen).toEqual(['windowSeqlens', 'cuSeqlens', 'windowSeqlens', 'cuSeqlens']);
});

test('a window smaller than a merged block is refused at load', async () => {
  const { hfConfig } = await fixture('qwen2_5_vl');
  const vision = { ...(hfConfig.vision_config as object), window_size: 27 };
  expect(await codeOf(() => traceModel(Qwen25Vl as never, { ...hfConfig, vision_config: vision }))).toBe('ERR_CONFIG');
});
