/** Videos that come as embeddings, and the memory that videos are planned. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { estimateMemory, LLM, SamplingParams, Tensor } from '../../dist/index';
import type { MultiModalData } from '../../dist/index';
import { codeOf, picture } from '../registries/support';
import { fixtureModels } from './fixtures';

const params = new SamplingParams({ temperature: 0, maxTokens: 8, ignoreEos: true, logprobs: 3 });
const grid = (...thw: number[]): Tensor => new Tensor('int64', [1, 3], BigInt64Array.from(thw, BigInt));

describe.each([
  ['llava_onevision', '<video>', '<image>'],
  ['qwen2_vl', '<|video_pad|>', '<|image_pad|>'],
  ['qwen2_5_vl', '<|video_pad|>', '<|image_pad|>'],
  ['qwen3_vl', '<|video_pad|>', '<|image_pad|>'],
])('embeddings in place of a video of %s', (name, pad, imagePad) => {
  let llm: LLM;
  beforeAll(async () => {
    llm = await LLM.load(join(fixtureModels, name), { dtype: 'float32', limitMmPerPrompt: { video: 2 } });
  });
  afterAll(() => llm.dispose());
  const isQwen = name !== 'llava_onevision';
  const width = (): number => {
    const { vision_config: vision, text_config: text } = llm.modelConfig.hfConfig as Record<
      string,
      Record<string, number>
    >;
    const deeper = (vision!.deepstack_visual_indexes as unknown as number[] | undefined)?.length ?? 0;
    return (text ?? (llm.modelConfig.textConfig as Record<string, number>)).hidden_size! * (1 + deeper);
  };
  const features = (rows: number, seed = 1): Tensor => {
    const data = Float32Array.from({ length: rows * width() }, (_, i) => Math.sin(i * seed + seed));
    return new Tensor('float32', [rows, width()], data);
  };
  const run = async (prompt: string, multiModalData: MultiModalData): Promise<unknown> =>
    (await llm.generate({ prompt, multiModalData }, params)).outputs;

  test('they are what the same rows are as a picture', async () => {
    const rows = features(2);
    const [video, image] = isQwen
      ? [
          { videoEmbeds: rows, videoGridThw: grid(1, 2, 4) },
          { imageEmbeds: rows, imageGridThw: grid(1, 2, 4) },
        ]
      : [rows, rows];
    const second = name === 'qwen3_vl' ? '<0.2 seconds>' : '';
    const marked = (token: string): string => `<|vision_start|>${token}<|vision_end|>what`;
    const seen = await run(`a${second}${marked(imagePad)}`, { image: image as never });
    expect(await run(`a${marked(pad)}`, { video })).toEqual(seen);
  });

  test('two of them, and one beside frames', async () => {
    const one = (seed: number): Record<string, Tensor> =>
      isQwen ? { videoEmbeds: features(4, seed), videoGridThw: grid(2, 2, 4) } : { videoEmbeds: features(5, seed) };
    const both = await run(`${pad}a${pad}b`, { video: [one(2), one(3)] });
    expect(await run(`${pad}a${pad}b`, { video: [one(3), one(2)] })).not.toEqual(both);
    expect(await run(`${pad}a${pad}b`, { video: [one(2), one(3)] })).toEqual(both);
    await run(`${pad}a${pad}b`, { video: [[picture(56, 56), picture(56, 56)], one(3)] });
  });

  test.each<[string, () => unknown, string]>([
    ['of another width', () => new Tensor('float32', [2, 3], new Float32Array(6)), 'ERR_IMAGE_EMBEDS'],
    ['of integers', () => new Tensor('int32', [2, width()], new Int32Array(2 * width())), 'ERR_IMAGE_EMBEDS'],
    ['without rows', () => new Tensor('float32', [0, width()], new Float32Array(0)), 'ERR_IMAGE_EMBEDS'],
    [
      'of frames of two widths',
      () => [features(1), new Tensor('float32', [1, 3], new Float32Array(3))],
      'ERR_IMAGE_EMBEDS',
    ],
    ['beside frames in one video', () => [features(1), picture(8, 8)], 'ERR_VIDEO_TYPE'],
    ...(isQwen
      ? ([
          ['without a grid', () => features(2), 'ERR_IMAGE_SIZE'],
          [
            'with a grid of halves',
            () => ({ videoEmbeds: features(2), videoGridThw: grid(1, 3, 4) }),
            'ERR_IMAGE_SIZE',
          ],
          [
            'fewer than the grid says',
            () => ({ videoEmbeds: features(2), videoGridThw: grid(2, 4, 4) }),
            'ERR_PLACEHOLDER_COUNT',
          ],
        ] as [string, () => unknown, string][])
      : []),
  ])('%s are refused', async (_, video, code) => {
    const before = llm.stats().promptTokens;
    expect(await codeOf(() => run(pad, { video: video() as never }))).toBe(code);
    expect(llm.stats()).toMatchObject({ promptTokens: before, running: 0, waiting: 0 });
  });

  if (!isQwen)
    test('those of each frame are joined in order', async () => {
      const [one, other] = [features(3), features(2, 7)];
      const joined = new Tensor(
        'float32',
        [5, width()],
        Float32Array.from([...(one.data as Float32Array), ...(other.data as Float32Array)]),
      );
      expect(await run(pad, { video: [one, other] })).toEqual(await run(pad, { video: joined }));
    });
});

test('who sends no videos has no more memory planned for features', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-videos-'));
  const source = join(fixtureModels, 'qwen2_vl');
  const json = (file: string): Record<string, unknown> => JSON.parse(readFileSync(join(source, file), 'utf8')) as never;
  const { vision_config: vision, ...config } = json('config.json');
  const wide = {
    ...config,
    hidden_size: 8192,
    head_dim: 16,
    vision_config: { ...(vision as object), hidden_size: 8192 },
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(wide));
  const pictures = { ...json('preprocessor_config.json'), max_pixels: 2000 * 28 * 28 };
  writeFileSync(join(folder, 'preprocessor_config.json'), JSON.stringify(pictures));
  const cache = async (limitMmPerPrompt: Record<string, number>): Promise<number> =>
    (await estimateMemory(folder, { limitMmPerPrompt })).encoderCache;
  const once = 2000 * 8192 * 4;
  expect(await cache({ video: 0 })).toBe(2 * once);
  expect(await cache({})).toBe(2 * once);
  // A prompt with all that it may have has to fit.
  expect(await cache({ image: 2 })).toBe(4 * once);
  expect(await cache({ image: 2, video: 3 })).toBe(6 * once);
  rmSync(folder, { recursive: true });
});
