/** The default mappers: the checkpoint's image processor, embeddings, a processor's own output, frames of a video. */
import { ImageProcessor, MULTIMODAL_REGISTRY, MultiModalKwargs, Tensor, resizeImage } from '../../dist/index';
import { decodeImage } from '../../dist/media';
import { join } from 'node:path';
import { fixtureModels } from '../models/fixtures';
import { codeOf, configOf, fixture, picture, registries, shapes } from './support';

class Model {}

const { multiModal } = registries();
multiModal.registerImageInputMapper()(Model);
multiModal.registerVideoInputMapper()(Model);
const config = configOf(Model, { limits: { image: 4, video: 4 } });
multiModal.initMmLimitsPerPrompt(config);

const map = (image: unknown): Promise<MultiModalKwargs> => multiModal.mapInput(config, { image: image as never });
const embeds = (...shape: number[]): Tensor =>
  new Tensor(
    'float32',
    shape,
    new Float32Array(shape.reduce((a, b) => a * b, 1)).map((_, i) => i),
  );

test.each([0.25, 0.5, 1])('a picture at scale %d is what the image processor makes of it', async (scale) => {
  const model = await fixture('llava-1.5', { limitMmPerPrompt: { image: 2 } });
  MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(model);
  const whole = await decodeImage(join(fixtureModels, 'images', 'core_300x200.png'));
  const image = await resizeImage(whole, 300 * scale, 200 * scale, 'bicubic');
  const expected = await (await ImageProcessor.load(join(fixtureModels, 'llava-1.5'))).preprocess([image]);
  const mapped = await MULTIMODAL_REGISTRY.mapInput(model, { image });
  expect(mapped.pixelValues).toEqual(expected.pixelValues);
  expect(await MULTIMODAL_REGISTRY.mapInput(model, { image: [image] })).toEqual(mapped);
  const two = await MULTIMODAL_REGISTRY.mapInput(model, { image: [image, image] });
  expect(shapes(two)).toEqual({ pixelValues: [2, 3, 56, 56] });
});

test('embeddings [F, H], [n, F, H] and lists of both take the encoder’s place', async () => {
  expect(shapes(await map(embeds(5, 4)))).toEqual({ imageEmbeds: [1, 5, 4] });
  expect(shapes(await map([embeds(5, 4), embeds(5, 4)]))).toEqual({ imageEmbeds: [2, 5, 4] });
  expect(shapes(await map(embeds(3, 5, 4)))).toEqual({ imageEmbeds: [3, 5, 4] });
  const ragged = await map([embeds(5, 4), embeds(2, 3, 4)]);
  expect((ragged.imageEmbeds as Tensor[]).map((t) => t.shape)).toEqual([
    [5, 4],
    [3, 4],
    [3, 4],
  ]);
  expect([...((ragged.imageEmbeds as Tensor[])[2]!.data as Float32Array)]).toEqual([
    12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
  ]);
});

test('embeddings [n, F, H] are n items', () => {
  const image = multiModal.getPlugin('image');
  expect(
    [embeds(5, 4), embeds(3, 5, 4), [embeds(5, 4), embeds(2, 5, 4)]].map((data) => image.countItems(data)),
  ).toEqual([1, 3, 3]);
});

test('a processor’s own output passes through', async () => {
  const mapped = { pixelValues: embeds(1, 3, 8, 8), imageSizes: new Tensor('int64', [1, 2], BigInt64Array.of(8n, 9n)) };
  expect({ ...(await map(mapped)) }).toEqual(mapped);
  expect({ ...(await map(new MultiModalKwargs(mapped))) }).toEqual(mapped);
  expect({ ...(await map([mapped])) }).toEqual(mapped);
  expect(shapes(await map([mapped, mapped]))).toEqual({ pixelValues: [2, 1, 3, 8, 8], imageSizes: [2, 1, 2] });
});

test.each<[string, unknown, number | undefined]>([
  ['a number', 5, 0],
  ['null in a list', [picture(8, 8), null], 1],
  ['embeddings behind a picture', [picture(8, 8), embeds(2, 4)], 1],
  ['a picture behind embeddings', [embeds(2, 4), picture(8, 8)], 0],
  ['a function behind two pictures', [picture(8, 8), picture(8, 8), () => 1], 2],
])('%s is refused where it stands', async (_, data, index) => {
  await expect(map(data)).rejects.toMatchObject({ code: 'ERR_IMAGE_TYPE', details: { index } });
});

test('embeddings of another rank are refused', async () => {
  expect(await codeOf(() => map(embeds(4)))).toBe('ERR_IMAGE_EMBEDS');
  expect(await codeOf(() => map(embeds(1, 2, 3, 4)))).toBe('ERR_IMAGE_EMBEDS');
});

test('a model without preprocessor_config.json is told so', async () => {
  const bare = { ...configOf(Model), preprocessorConfig: undefined };
  multiModal.initMmLimitsPerPrompt(bare);
  expect(await codeOf(() => multiModal.mapInput(bare, { image: picture(8, 8) }))).toBe('ERR_PROCESSOR_CONFIG');
});

test('loadData decodes pictures and leaves embeddings and mapped ones alone', async () => {
  const path = join(fixtureModels, 'images', 'core_64x48.png');
  const mapped = { pixelValues: embeds(1, 3, 8, 8) };
  const { image, video } = await multiModal.loadData({
    image: [path, embeds(2, 4), mapped, picture(3, 2)] as never,
    video: [[path, path], [path]],
  });
  const [decoded, ...rest] = image as unknown[];
  expect(decoded).toMatchObject({ width: 64, height: 48, channels: 3 });
  expect(rest).toEqual([embeds(2, 4), mapped, picture(3, 2)]);
  expect((video as unknown[][]).map((frames) => frames.length)).toEqual([2, 1]);
  expect(await codeOf(() => multiModal.loadData({ image: path }, { trusted: false }))).toBe('ERR_MEDIA_NOT_ALLOWED');
  expect(await codeOf(() => multiModal.loadData({ touch: path }))).toBe('ERR_UNKNOWN_MODALITY');
});

describe('a video', () => {
  const frames = [picture(8, 8), picture(9, 12), picture(30, 8)];
  const video = (data: unknown): Promise<MultiModalKwargs> => multiModal.mapInput(config, { video: data as never });

  test('is its frames through the image processor', async () => {
    expect(shapes(await video(frames))).toEqual({ pixelValuesVideos: [3, 3, 8, 8] });
    expect(shapes(await video([frames]))).toEqual({ pixelValuesVideos: [3, 3, 8, 8] });
  });

  test('is mapped alone, and is a list', async () => {
    expect(multiModal.getPlugin('video').split([frames, frames])).toEqual([frames, frames]);
    expect(await codeOf(() => video([frames, frames]))).toBe('ERR_VIDEO_TYPE');
    expect(await codeOf(() => video(7))).toBe('ERR_VIDEO_TYPE');
  });

  test('needs a mapper of the model’s own where pictures keep their sizes', async () => {
    const own = configOf(Model, { preprocessor: { image_processor_type: 'Qwen2VLImageProcessor' } });
    multiModal.initMmLimitsPerPrompt(own);
    expect(await codeOf(() => multiModal.mapInput(own, { video: [picture(56, 56)] }))).toBe('ERR_NO_DEFAULT_MAPPER');
  });
});
