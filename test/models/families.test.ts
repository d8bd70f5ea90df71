/** InternVL, Gemma 3, PaliGemma, Pixtral and Mistral 3: true maxima, how pictures are written, what embeddings need. */
import { MULTIMODAL_REGISTRY, Tensor, type RawImage } from '../../dist/index';
import { processInput, type ProcessedInputs } from '../../dist/engine/submission';
import { planModel } from '../../dist/engine/loaded-model';
import { runsOf } from '../../dist/models/image-inputs';
import { patchRows } from '../../dist/models/pixtral-vision';
import { resolveModelClass } from '../../dist/models/registry';
import { Tokenizer } from '../../dist/tokenizer';
import { join } from 'node:path';
import { fixtureModels } from './fixtures';
import { fixture, picture } from '../registries/support';

interface Given {
  prompt: string;
  images: unknown[];
  kwargs?: Record<string, unknown>;
  /** As ids alone, without text. */
  ids?: boolean;
}

async function processed(name: string, { prompt, images, kwargs = {}, ids = false }: Given): Promise<ProcessedInputs> {
  const config = await fixture(name);
  const tokenizer = await Tokenizer.load(join(fixtureModels, name));
  const segments = tokenizer.segments(prompt);
  return processInput(config, ids ? undefined : tokenizer, {
    promptTokenIds: tokenizer.encodeSegments(segments),
    ...(ids ? {} : { segments }),
    multiModalData: { image: images as RawImage[] },
    mmProcessorKwargs: kwargs,
  });
}

const features = (rows: number, width = 64): Tensor =>
  new Tensor('float32', [rows, width], new Float32Array(rows * width));

/** Rows of every picture up to `side` a side, the most of them. */
async function most(name: string, prompt: string, side: number, kwargs: Record<string, unknown> = {}): Promise<number> {
  const config = await fixture(name);
  const token = config.hfConfig.image_token_index as number;
  let found = 0;
  for (let height = 1; height <= side; height += 7) {
    for (let width = 1; width <= side; width += 7) {
      const inputs = await processed(name, { prompt, images: [picture(width, height)], kwargs }).catch(tooThin);
      found = Math.max(found, inputs?.promptTokenIds.filter((id) => id === token).length ?? 0);
    }
  }
  return found;
}

function tooThin(e: unknown): undefined {
  expect((e as { code: string }).code).toBe('ERR_IMAGE_ASPECT');
}

const maximum = async (name: string, kwargs: Record<string, unknown> = {}): Promise<number> => {
  const config = await fixture(name, { mmProcessorKwargs: kwargs });
  MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
  return MULTIMODAL_REGISTRY.getMaxMultimodalTokens(config);
};

test.each<[string, string, Record<string, unknown>]>([
  ['internvl', '<IMG_CONTEXT>', {}],
  ['internvl', '<IMG_CONTEXT>', { maxPatches: 1 }],
  ['gemma3', '<start_of_image>', {}],
  ['gemma3', '<start_of_image>', { doPanAndScan: true, panAndScanMinCropSize: 16, panAndScanMaxNumCrops: 3 }],
  ['pixtral', '[IMG]', {}],
  ['mistral3', '[IMG]', {}],
])(
  '%s: no picture of up to 160 a side has more rows than the maximum, and one has as many (%s, %p)',
  async (name, prompt, kwargs) => {
    expect(await most(name, prompt, 160, kwargs)).toBe(await maximum(name, kwargs));
  },
);

test.each(['internvl', 'gemma3', 'paligemma', 'pixtral', 'mistral3', 'smolvlm', 'idefics3'])(
  '%s is planned with its largest picture',
  async (name) => {
    const { plan } = await planModel(join(fixtureModels, name), { maxModelLen: 2048 });
    expect(plan.encoderActivations).toBeGreaterThan(0);
    expect(plan.maxMultiModalTokens).toBe(await maximum(name));
  },
);

test('InternVL: a picture stands between its marks, features of any number of rows too', async () => {
  const inputs = await processed('internvl', { prompt: 'a<IMG_CONTEXT>b', images: [features(5)] });
  const tokenizer = await Tokenizer.load(join(fixtureModels, 'internvl'));
  const text = tokenizer.decode(inputs.promptTokenIds, { skipSpecialTokens: false });
  expect(text).toBe(`a<img>${'<IMG_CONTEXT>'.repeat(5)}</img>b`);
});

describe('Gemma 3', () => {
  const prompt = 'a\n<start_of_image>b';

  test('line feeds around a picture become one with those beside it', async () => {
    const { promptTokenIds: ids, atomicSpans } = await processed('gemma3', { prompt, images: [picture(9, 9)] });
    const tokenizer = await Tokenizer.load(join(fixtureModels, 'gemma3'));
    const expected = tokenizer.encode(`a\n\n\n<start_of_image>${'<image_soft_token>'.repeat(9)}<end_of_image>\n\nb`);
    expect(ids).toEqual(expected);
    const token = tokenizer.tokenToId('<image_soft_token>')!;
    expect(atomicSpans).toEqual([[ids.indexOf(token), 9]]);
  });

  test('text that a message spells stays text', async () => {
    const config = await fixture('gemma3');
    const tokenizer = await Tokenizer.load(config.model);
    const start = tokenizer.tokenToId('<start_of_image>')!;
    const segments = [{ text: 'x<end_of_image>', trusted: false }, { ids: [start] }, { text: '</s>y', trusted: false }];
    const inputs = await processInput(config, tokenizer, {
      promptTokenIds: tokenizer.encodeSegments(segments),
      segments,
      multiModalData: { image: [picture(9, 9)] },
    });
    const end = tokenizer.tokenToId('<end_of_image>')!;
    expect(inputs.promptTokenIds.filter((id) => id === end)).toHaveLength(1);
  });

  test('features have to be whole views', async () => {
    await expect(processed('gemma3', { prompt, images: [features(10)] })).rejects.toMatchObject({
      code: 'ERR_IMAGE_EMBEDS',
    });
  });
});

describe('PaliGemma', () => {
  const run = async (prompt: string, images = 1): Promise<string> => {
    const inputs = await processed('paligemma', { prompt, images: new Array<RawImage>(images).fill(picture(9, 9)) });
    expect(inputs.atomicSpans).toEqual([[0, inputs.promptTokenIds.length]]);
    const tokenizer = await Tokenizer.load(join(fixtureModels, 'paligemma'));
    return tokenizer
      .decode(inputs.promptTokenIds, { skipSpecialTokens: false })
      .replaceAll('<image>'.repeat(16), '[16]');
  };

  test('the BOS comes behind the last picture, a line feed at the end', async () => {
    expect(await run('<image>a b')).toBe('[16]<bos>a b\n');
    expect(await run('a<image>b<image>c', 2)).toBe('a[16]b[16]<bos>c\n');
  });

  test('a prompt without placeholders has its pictures in front', async () => {
    expect(await run('a b', 2)).toBe('[16][16]<bos>a b\n');
  });

  test('a step is planned to hold a whole prompt', async () => {
    const folder = join(fixtureModels, 'paligemma');
    const { plan } = await planModel(folder, { limitMmPerPrompt: { image: 200 }, maxModelLen: 8000 });
    expect(plan.maxNumBatchedTokens).toBe(200 * 16 + 512);
    await expect(
      planModel(folder, { limitMmPerPrompt: { image: 200 }, maxModelLen: 8000, maxNumBatchedTokens: 3200 }),
    ).rejects.toMatchObject({ code: 'ERR_OPTION', details: { option: 'maxNumBatchedTokens', minimum: 3201 } });
  });
});

describe('Pixtral', () => {
  test('its checkpoints name the architecture of LLaVA; the tower tells them apart', async () => {
    const of = async (type: string) =>
      (await resolveModelClass(['LlavaForConditionalGeneration'], { vision_config: { model_type: type } })).modelClass
        .name;
    expect([await of('pixtral'), await of('clip_vision_model')]).toEqual([
      'PixtralForConditionalGeneration',
      'LlavaForConditionalGeneration',
    ]);
  });

  test('a line of placeholders and a break for each row of patches', async () => {
    const { promptTokenIds } = await processed('mistral3', { prompt: '[IMG]', images: [picture(48, 32)] });
    const tokenizer = await Tokenizer.load(join(fixtureModels, 'mistral3'));
    const text = tokenizer.decode(promptTokenIds, { skipSpecialTokens: false });
    expect(text.replace(/^<s>/, '')).toBe('[IMG][IMG][IMG][IMG_BREAK][IMG][IMG][IMG][IMG_END]');
  });

  test('features say of which size their picture is', async () => {
    await expect(processed('pixtral', { prompt: '[IMG]', images: [features(6)] })).rejects.toMatchObject({
      code: 'ERR_IMAGE_EMBEDS',
    });
    const imageSizes = new Tensor('int64', [1, 2], BigInt64Array.of(16n, 24n));
    const inputs = await processed('pixtral', { prompt: '[IMG]', images: [{ imageEmbeds: features(6), imageSizes }] });
    const token = (await fixture('pixtral')).hfConfig.image_token_index as number;
    expect(runsOf(inputs.promptTokenIds, token).map(([, n]) => n)).toEqual([3, 3]);
  });

  test('patches are rows of the picture, squares of them one after the other', () => {
    // One channel, 4 x 6 pixels, patches of one pixel: a row is its pixel.
    const pixels = Float32Array.from({ length: 24 }, (_, i) => i);
    const { patches, patchPositions } = patchRows(pixels, [1, 4, 6], 1, 2);
    expect([...(patches.data as Float32Array)].slice(0, 8)).toEqual([0, 1, 6, 7, 2, 3, 8, 9]);
    expect([...(patchPositions.data as Int32Array)].slice(0, 4)).toEqual([0, 0, 1, 1]);
    const two = patchRows(pixels, [1, 4, 6], 2, 1);
    expect([...(two.patches.data as Float32Array)].slice(0, 8)).toEqual([0, 1, 6, 7, 2, 3, 8, 9]);
  });
});

test('a picture that is nearly a line is refused before it is mapped', async () => {
  const thin = { prompt: '[IMG]', images: [picture(1, 4000)] };
  await expect(processed('pixtral', thin)).rejects.toMatchObject({ code: 'ERR_IMAGE_ASPECT' });
});
