/** Mapped items are kept by content: what tells two apart, and how many bytes may stay. */
import type { ModelConfig } from '../../dist/config';
import { ItemMapper, type EncodableItem } from '../../dist/engine/items';
import type { RawImage } from '../../dist/index';
import { traceModel } from '../../dist/nn';
import { fixture, picture } from '../registries/support';

let config: ModelConfig;
beforeAll(async () => {
  config = await fixture('llava-siglip', { limitMmPerPrompt: { image: 4 } });
});

const mapperOf = (capacity?: number): ItemMapper =>
  new ItemMapper(config, traceModel(config.modelClass as never, config.hfConfig), () => 16, capacity);

async function one(mapper: ItemMapper, image: RawImage, kwargs: Record<string, unknown> = {}): Promise<EncodableItem> {
  return (await mapper.map({ image: [image] }, kwargs))[0]!;
}

/** A picture that differs everywhere. */
const varied = (width: number, height: number): RawImage => ({
  ...picture(width, height),
  data: Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 37) % 251),
});

test('shape, orientation, mode and options tell pictures apart; order of options and place in memory do not', async () => {
  const key = async (image: RawImage, kwargs?: Record<string, unknown>): Promise<string> =>
    Buffer.from((await one(mapperOf(), image, kwargs)).hash).toString('hex');
  const base = varied(6, 4);
  const same = await key(base, { doRescale: true, doNormalize: true });
  expect(await key(base, { doNormalize: true, doRescale: true })).toBe(same);
  const bytes = new Uint8Array(base.data.length + 5);
  bytes.set(base.data, 3);
  expect(
    await key({ ...base, data: bytes.subarray(3, 3 + base.data.length) }, { doRescale: true, doNormalize: true }),
  ).toBe(same);
  const others = await Promise.all([
    key({ ...base, width: 4, height: 6 }),
    key({ ...base, width: 6, height: 12, channels: 1 }),
    key({ ...base, data: Uint8Array.from(base.data).reverse() }),
    key(base, { doRescale: false, doNormalize: true }),
    key(base),
  ]);
  expect(new Set([same, ...others]).size).toBe(6);
});

test('the longest unused go first, by bytes', async () => {
  const each = 3 * 56 * 56 * 4;
  const mapper = mapperOf(2 * each);
  const pictures = [1, 2, 3].map((value) => picture(8, 8, value));
  await one(mapper, pictures[0]!);
  await one(mapper, pictures[1]!);
  expect([mapper.bytes, mapper.hits]).toEqual([2 * each, 0]);
  await one(mapper, pictures[0]!);
  await one(mapper, pictures[2]!);
  expect([mapper.bytes, mapper.hits]).toEqual([2 * each, 1]);
  // The second was unused longest.
  await one(mapper, pictures[0]!);
  expect(mapper.hits).toBe(2);
  await one(mapper, pictures[1]!);
  expect([mapper.bytes, mapper.hits, mapper.queries]).toEqual([2 * each, 2, 6]);
});

test('a picture that is asked for twice at once is mapped once', async () => {
  const mapper = mapperOf();
  const image = varied(9, 9);
  const [first, second] = await mapper.map({ image: [image, { ...image }] });
  expect(second).toBe(first);
  expect(mapper.hits).toBe(1);
});

test('where one item fails, nobody reads the others any more when the request hears of it', async () => {
  const mapper = mapperOf();
  const good = picture(1200, 900);
  let mapped = false;
  const own = one(mapper, good).then(() => (mapped = true));
  await expect(mapper.map({ image: [{ ...picture(8, 8), channels: 2 as never }, good] })).rejects.toThrow();
  expect(mapped).toBe(true);
  await own;
});
