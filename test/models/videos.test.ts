/** Videos as frames: patches, pooling, places in time, placeholders, limits and caches, each against its definition written out here. */
import { join } from 'node:path';
import { InputContext, INPUT_REGISTRY, LLM, MULTIMODAL_REGISTRY, SamplingParams, Tensor } from '../../dist/index';
import type { EngineOptions, MultiModalData, RawImage } from '../../dist/index';
import { planModel } from '../../dist/engine/loaded-model';
import { processInput } from '../../dist/engine/submission';
import { LlavaOnevisionForConditionalGeneration as Onevision } from '../../dist/models/llava_onevision';
import { Qwen2_5_VLForConditionalGeneration as Qwen25Vl } from '../../dist/models/qwen2_5_vl';
import { Qwen3VLForConditionalGeneration as Qwen3Vl } from '../../dist/models/qwen3_vl';
import { oneDecimal } from '../../dist/models/qwen3-video';
import { qwen2VlVideoGrid } from '../../dist/multimodal/processors/qwen2-vl';
import { ImageProcessor } from '../../dist/multimodal';
import { Tokenizer } from '../../dist/tokenizer';
import { codeOf, fixture, picture } from '../registries/support';
import { fixtureModels } from './fixtures';

const params = new SamplingParams({ temperature: 0, maxTokens: 8, ignoreEos: true, logprobs: 3 });
const qwens = ['qwen2_vl', 'qwen2_5_vl', 'qwen3_vl'] as const;

/** A picture in which no two pixels are alike to a model. */
function frame(width: number, height: number, seed = 1): RawImage {
  let state = seed;
  const data = Uint8Array.from({ length: width * height * 3 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
  return { width, height, channels: 3, data };
}

async function mapped(name: string, video: readonly RawImage[], kwargs = {}): Promise<Record<string, Tensor>> {
  const config = await fixture(name);
  MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
  return (await MULTIMODAL_REGISTRY.mapInput(config, { video }, kwargs)) as unknown as Record<string, Tensor>;
}

const numbers = (tensor: Tensor): number[] => Array.from(tensor.data as unknown as ArrayLike<number>, Number);

describe.each(qwens)('%s', (name) => {
  const size: [number, number] = name === 'qwen3_vl' ? [48, 48] : [56, 84];

  test('two equal frames are the patches of a picture, a frame that is missing is the last one again', async () => {
    const [one, other] = [frame(...size), frame(...size, 7)];
    const config = await fixture(name);
    const { pixelValues, imageGridThw } = await ImageProcessor.of(config).preprocess([one]);
    const twice = await mapped(name, [one, one]);
    expect(twice.pixelValuesVideos).toEqual(pixelValues);
    expect(twice.videoGridThw).toEqual(imageGridThw);
    // As they are: what a whole video's limits make of three frames is another size than of four.
    const asIs = { doResize: false };
    const three = await mapped(name, [one, other, one], asIs);
    expect(three).toEqual(await mapped(name, [one, other, one, one], asIs));
    expect(numbers(three.videoGridThw!)).toEqual([2, ...numbers(imageGridThw!).slice(1)]);
    // Inside a row: channel, time, y, x. The first frame's halves are those of the picture, the second's those of the other one.
    const half = pixelValues!.shape[1]! / 6;
    const rowsOf = async (f: RawImage): Promise<Float32Array> =>
      (await ImageProcessor.of(config).preprocess([f])).pixelValues!.data as Float32Array;
    const [first, second] = [await rowsOf(one), await rowsOf(other)];
    const pair = three.pixelValuesVideos!.data as Float32Array;
    for (let at = 0; at < first.length; at += half) {
      const from = (at / half) % 2 === 0 ? first : second;
      expect(pair.subarray(at, at + half)).toEqual(from.subarray(at, at + half));
    }
  });

  test('the largest video is what memory is planned for, and no video may cost more', async () => {
    const { plan, config } = await planModel(join(fixtureModels, name), { maxModelLen: 2048 });
    const ofVideo = MULTIMODAL_REGISTRY.getPlugin('video').getMaxMultimodalTokens(config);
    expect(plan.maxMultiModalTokens).toBe(MULTIMODAL_REGISTRY.getMaxMultimodalTokens(config));
    const token = config.hfConfig.video_token_index as number;
    const tokenizer = await Tokenizer.load(config.model);
    const rows = async (count: number, width: number, height: number): Promise<number> => {
      const video = new Array<RawImage>(count).fill(picture(width, height));
      const { promptTokenIds } = await processInput(config, tokenizer, {
        promptTokenIds: [token],
        multiModalData: { video },
      });
      return promptTokenIds.filter((id) => id === token).length;
    };
    const { multiModalData } = await INPUT_REGISTRY.dummyDataForProfiling(config, 100, MULTIMODAL_REGISTRY);
    const [dummy] = multiModalData!.video as RawImage[][];
    expect(await rows(dummy!.length, dummy![0]!.width, dummy![0]!.height)).toBe(ofVideo);
    expect(await codeOf(() => rows(500, 56, 56))).toBe('ERR_VIDEO_FRAMES');
  });

  test('any chunks, the same bits; a video that was seen is neither mapped nor encoded again', async () => {
    const video = [frame(...size), frame(...size, 7), frame(...size, 9)];
    const prompt = 'a<|vision_start|><|video_pad|><|vision_end|>b c';
    const run = async (options: EngineOptions): Promise<unknown> => {
      const llm = await LLM.load(join(fixtureModels, name), { dtype: 'float32', ...options });
      const ask = async (frames: RawImage[]): Promise<unknown> =>
        (await llm.generate({ prompt, multiModalData: { video: frames } }, params)).outputs[0];
      const first = await ask(video);
      const { encoderRuns, preprocessCacheHits } = llm.stats();
      expect(await ask(video.map((f) => ({ ...f, data: f.data.slice() })))).toEqual(first);
      expect(llm.stats()).toMatchObject({ encoderRuns, preprocessCacheHits: preprocessCacheHits + 1 });
      expect(await ask([video[1]!, video[0]!, video[2]!])).not.toEqual(first);
      await llm.dispose();
      return first;
    };
    expect(await run({ maxNumBatchedTokens: 8, maxNumSeqs: 2, blockSize: 4 })).toEqual(await run({}));
  });
});

test.each(['qwen2_vl', 'qwen2_5_vl'])(
  '%s sees in two equal frames what it sees in the picture, to the bit',
  async (name) => {
    const llm = await LLM.load(join(fixtureModels, name), { dtype: 'float32' });
    const one = frame(56, 84);
    const ask = async (pad: string, multiModalData: MultiModalData): Promise<unknown> =>
      (await llm.generate({ prompt: `<|vision_start|>${pad}<|vision_end|>what`, multiModalData }, params)).outputs[0];
    expect(await ask('<|video_pad|>', { video: [one, one] })).toEqual(await ask('<|image_pad|>', { image: one }));
    await llm.dispose();
  },
);

const grid = (...thw: number[]): Tensor => new Tensor('int64', [1, 3], BigInt64Array.from(thw, BigInt));
const axes = (flat: Int32Array, length: number): number[][] =>
  [0, 1, 2].map((axis) => [...flat.slice(axis * length, (axis + 1) * length)]);

test('Qwen2.5-VL: the axis of time advances by seconds', async () => {
  const context = new InputContext(await fixture('qwen2_5_vl'));
  const at = (fps: number): unknown => {
    const secondPerGridTs = new Tensor('float32', [1], Float32Array.of(2 / fps));
    const tensors = { videoGridThw: grid(3, 2, 4), secondPerGridTs };
    const item = { modality: 'video', tensors, ranges: [[1, 6]] as [number, number][] };
    const { positions, delta } = Qwen25Vl.positions(context, new Array<number>(8).fill(0), [item])!;
    return { axes: axes(positions, 8), delta };
  };
  // Two steps a second: at 2 frames a second a pair is a second, at 3 two thirds of one.
  expect(at(2)).toEqual({
    axes: [
      [0, 1, 1, 3, 3, 5, 5, 6],
      [0, 1, 1, 1, 1, 1, 1, 6],
      [0, 1, 2, 1, 2, 1, 2, 6],
    ],
    delta: -1,
  });
  expect((at(3) as { axes: number[][] }).axes[0]).toEqual([0, 1, 1, 2, 2, 3, 3, 4]);
});

test('Qwen3-VL: pairs of frames are pictures of their own, text between them', async () => {
  const context = new InputContext(await fixture('qwen3_vl'));
  const ranges: [number, number][] = [
    [1, 2],
    [5, 2],
  ];
  const item = { modality: 'video', tensors: { videoGridThw: grid(2, 2, 4) }, ranges };
  const { positions, delta } = Qwen3Vl.positions(context, new Array<number>(8).fill(0), [item])!;
  expect(axes(positions, 8)).toEqual([
    [0, 1, 1, 3, 4, 5, 5, 7],
    [0, 1, 1, 3, 4, 5, 5, 7],
    [0, 1, 2, 3, 4, 5, 6, 7],
  ]);
  expect(delta).toBe(0);
  const cut = {
    ...item,
    ranges: [
      [1, 1],
      [5, 3],
    ] as [number, number][],
  };
  expect(await codeOf(() => Qwen3Vl.positions(context, new Array<number>(8).fill(0), [cut]))).toBe(
    'ERR_PLACEHOLDER_COUNT',
  );
});

test('Qwen3-VL: each pair stands behind its second, and pictures beside a video are expanded too', async () => {
  const config = await fixture('qwen3_vl', { limitMmPerPrompt: { image: 1, video: 1 } });
  const tokenizer = await Tokenizer.load(config.model);
  const run = async (prompt: string, multiModalData: MultiModalData, mmProcessorKwargs = {}): Promise<string> => {
    const segments = tokenizer.segments(prompt);
    const inputs = { promptTokenIds: tokenizer.encodeSegments(segments), segments, multiModalData, mmProcessorKwargs };
    const { promptTokenIds } = await processInput(config, tokenizer, inputs);
    const text = tokenizer.decode(promptTokenIds, { skipSpecialTokens: false });
    // The text is tokenized as if it had been written there.
    expect(promptTokenIds).toEqual(tokenizer.encode(text));
    return text.replaceAll(/(<\|(?:video|image)_pad\|>)+/g, (run, pad: string) => `[${run.length / pad.length}]`);
  };
  const video = new Array<RawImage>(3).fill(picture(48, 48));
  const marked = '<|vision_start|><|video_pad|><|vision_end|>';
  const pair = '<|vision_start|>[4]<|vision_end|>';
  expect(await run(`a${marked}b`, { video })).toBe(`a<0.2 seconds>${pair}<1.0 seconds>${pair}b`);
  expect(await run(`a<|video_pad|>b`, { video }, { fps: 1 })).toBe(`a<0.5 seconds>${pair}<2.0 seconds>${pair}b`);
  const image = picture(48, 48);
  expect(await run(`<|image_pad|>${marked}`, { video, image }, { fps: 24 })).toBe(
    `[4]<0.0 seconds>${pair}<0.1 seconds>${pair}`,
  );
});

test.each([
  [0.25, '0.2'],
  [0.75, '0.8'],
  [1.25, '1.2'],
  [0.35, '0.3'],
  [2, '2.0'],
])('%d is written %s', (x, text) => expect(oneDecimal(x)).toBe(text));

test('Qwen3-VL: the limits on pixels are those of the whole video, of as many frames as are counted', async () => {
  const config = ImageProcessor.of(await fixture('qwen3_vl')).config({});
  const of = (count: number, height: number, width: number): unknown =>
    qwen2VlVideoGrid(count, height, width, config, 'video');
  // 2304 to 6912 pixels in merged patches of 24 x 24: at most 12 blocks in all frames, at least 4.
  expect(of(2, 48, 48)).toEqual([1, 4, 4]);
  expect(of(4, 48, 48)).toEqual([2, 2, 2]);
  // Five frames count as four, and fill six: 4 x 48 x 24 pixels are not too many, 5 x 48 x 48 are scaled.
  expect(of(5, 48, 24)).toEqual([3, 4, 2]);
  expect(of(5, 48, 48)).toEqual([3, 2, 2]);
  // A side below a merged patch is brought to one.
  expect(of(2, 10, 10)).toEqual([1, 4, 4]);
});

describe('LLaVA-OneVision', () => {
  test('features of a frame are halved bilinearly; one newline ends the video', async () => {
    const context = new InputContext(await fixture('llava_onevision'));
    const frames = new Tensor('float32', [2, 3, 24, 24], new Float32Array(2 * 3 * 24 * 24));
    const item = { modality: 'video', tensors: { pixelValuesVideos: frames } };
    const { featureIndex, featureWeight } = Onevision.prepare(context, item);
    const rows = 2 * 4 + 1;
    expect(featureIndex!.shape).toEqual([4, rows]);
    const values = Array.from({ length: 2 * 9 + 1 }, (_, i) => Math.sin(i));
    const found = Array.from({ length: rows }, (_, row) =>
      [0, 1, 2, 3].reduce((sum, k) => {
        const from = numbers(featureIndex!)[k * rows + row]!;
        return from < 0 ? sum : sum + values[from]! * numbers(featureWeight!)[k * rows + row]!;
      }, 0),
    );
    // Three features a side become two, whose middles lie a quarter of a step behind the first and before the last one.
    const at = (f: number, y: number, x: number): number => {
      const along = (line: (i: number) => number, end: number): number =>
        end === 0 ? 0.75 * line(0) + 0.25 * line(1) : 0.25 * line(1) + 0.75 * line(2);
      return along((row) => along((col) => values[f * 9 + row * 3 + col]!, x), y);
    };
    const expected = [0, 1].flatMap((f) => [at(f, 0, 0), at(f, 0, 1), at(f, 1, 0), at(f, 1, 1)]);
    // Weights are products of two float32 parts.
    [...expected, values[18]!].forEach((value, i) => expect(found[i]).toBeCloseTo(value, 6));
  });

  test('a frame is squashed to a tile as the whole of a picture is', async () => {
    const one = frame(30, 50);
    const config = await fixture('llava_onevision');
    const { pixelValues } = await ImageProcessor.of(config).preprocess([one]);
    const { pixelValuesVideos } = await mapped('llava_onevision', [one, one]);
    expect(pixelValuesVideos!.shape).toEqual([2, 3, 24, 24]);
    const whole = (pixelValues!.data as Float32Array).subarray(0, 3 * 24 * 24);
    expect(numbers(pixelValuesVideos!)).toEqual([...whole, ...whole]);
  });

  test('as many frames as the most expensive picture has room for; maxVideoTokens of the engine says otherwise', async () => {
    const most = async (options: EngineOptions): Promise<unknown> => {
      const { plan, config } = await planModel(join(fixtureModels, 'llava_onevision'), options);
      expect(plan.encoderActivations).toBeGreaterThan(0);
      return MULTIMODAL_REGISTRY.getMaxTokensByModality(config);
    };
    expect(await most({})).toMatchObject({ image: 121, video: 121 });
    expect(await most({ mmProcessorKwargs: { maxVideoTokens: 50 }, limitMmPerPrompt: { video: 2 } })).toMatchObject({
      image: 121,
      video: 2 * 49,
    });
  });
});

describe.each([
  ['llava_onevision', '<video>'],
  ['qwen2_5_vl', '<|video_pad|>'],
  ['qwen3_vl', '<|video_pad|>'],
])('requests to %s', (name, pad) => {
  let llm: LLM;
  beforeAll(async () => {
    llm = await LLM.load(join(fixtureModels, name), { dtype: 'float32', limitMmPerPrompt: { video: 2 } });
  });
  afterAll(() => llm.dispose());
  const ask = (video: unknown, prompt = pad, mmProcessorKwargs = {}): Promise<string | undefined> =>
    codeOf(() =>
      llm.generate({ prompt, multiModalData: { video: video as never }, mmProcessorKwargs }, { maxTokens: 1 }),
    );
  const one = picture(48, 48);

  test.each<[string, unknown, string | undefined]>([
    ['frames', [one, one], undefined],
    ['one frame', [one], undefined],
    ['no frames', [], 'ERR_VIDEO_FRAMES'],
    ['frames of two sizes', [one, picture(48, 49)], 'ERR_VIDEO_FRAMES'],
    ['more frames than fit', new Array<RawImage>(600).fill(one), 'ERR_VIDEO_FRAMES'],
    ['three videos', [[one], [one], [one]], 'ERR_MM_LIMIT'],
    ['no placeholder for the second', [[one], [one]], 'ERR_PLACEHOLDER_COUNT'],
    ['a number', 5, 'ERR_VIDEO_TYPE'],
  ])('%s', async (_, video, code) => {
    const before = llm.stats().promptTokens;
    expect(await ask(video)).toBe(code);
    if (code !== undefined) expect(llm.stats()).toMatchObject({ promptTokens: before, running: 0, waiting: 0 });
  });

  test('two videos and a picture in one prompt', async () => {
    const mark = name === 'llava_onevision' ? '<image>' : '<|image_pad|>';
    const prompt = `${pad}a${mark}b${pad}c`;
    const multiModalData = { video: [[one, one], [one]], image: one };
    const { usage } = await llm.generate({ prompt, multiModalData }, { maxTokens: 1 });
    const alone = await llm.countTokens({ prompt: mark, multiModalData: { image: one } });
    expect(usage.imageTokens).toBeGreaterThan(alone.image);
  });

  test('messages have videos as parts, and mmProcessorKwargs of their own', async () => {
    const chatTemplate = `{% for m in messages %}{% for p in m.content %}{% if p.type == 'video' %}${pad}{% else %}{{ p.text }}{% endif %}{% endfor %}{% endfor %}`;
    const content = [
      { type: 'video', video: [one, one] },
      { type: 'text', text: 'what' },
    ] as const;
    const messages = [{ role: 'user', content }];
    const chat = async (mmProcessorKwargs?: Record<string, unknown>): Promise<number[]> =>
      (
        await llm.chat(
          messages,
          { maxTokens: 1 },
          { chatTemplate, ...(mmProcessorKwargs ? { mmProcessorKwargs } : {}) },
        )
      ).promptTokenIds;
    const plain = await llm.generate({ prompt: `${pad}what`, multiModalData: { video: [one, one] } }, { maxTokens: 1 });
    expect(await chat()).toEqual(plain.promptTokenIds);
    if (name === 'qwen3_vl') expect(await chat({ fps: 0.1 })).not.toEqual(plain.promptTokenIds);
    // A template that takes text only has the placeholder in front.
    const flat = await llm.chat(
      messages,
      { maxTokens: 1 },
      { chatTemplate: '{% for m in messages %}{{ m.content }}{% endfor %}' },
    );
    expect(flat.usage.imageTokens).toBe(plain.usage.imageTokens);
    expect(
      await codeOf(() => llm.chat([{ role: 'user', content: [{ type: 'video', video: 'x.mp4' }] }] as never)),
    ).toBe('ERR_MESSAGES');
    expect(await codeOf(() => llm.chat(messages, {}, { chatTemplate, mmProcessorKwargs: 3 as never }))).toBe(
      'ERR_OPTION',
    );
  });

  if (name !== 'llava_onevision')
    test.each([0, -1, '2', Infinity])('%p frames a second are refused', async (fps) => {
      expect(await ask([one, one], pad, { fps })).toBe('ERR_MM_PROCESSOR_KWARGS');
    });
});
