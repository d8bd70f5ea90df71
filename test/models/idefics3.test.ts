/** Idefics3 and SmolVLM: what a picture costs at most, how it is written, and the places of patches. */
import { InputContext, Tensor, type RawImage } from '../../dist/index';
import type { LLMInputs } from '../../dist/inputs/registry';
import {
  bucketPlaces,
  getMaxIdefics3ImageTokens,
  inputProcessorForIdefics3,
  type Idefics3Config,
} from '../../dist/models/idefics3';
import { ImageProcessor } from '../../dist/multimodal';
import { idefics3Grid } from '../../dist/multimodal/processors/idefics3';
import { processInput } from '../../dist/engine/submission';
import { Tokenizer } from '../../dist/tokenizer';
import { fixture, picture } from '../registries/support';

const context = async () => new InputContext(await fixture('smolvlm'));

async function expanded(image: unknown, kwargs: Record<string, unknown> = {}): Promise<LLMInputs> {
  const config = await fixture('smolvlm');
  const tokenizer = await Tokenizer.load(config.model);
  const segments = tokenizer.segments('a<image>b');
  return processInput(config, tokenizer, {
    promptTokenIds: tokenizer.encodeSegments(segments),
    segments,
    multiModalData: { image: [image] as RawImage[] },
    mmProcessorKwargs: kwargs,
  });
}

const imageTokens = async (inputs: LLMInputs): Promise<number> => {
  const token = (await context()).getHfConfig<Idefics3Config>().image_token_index;
  return inputs.promptTokenIds.filter((id) => id === token).length;
};

test('no picture has more rows than the maximum, and one has as many', async () => {
  const ctx = await context();
  // Odd longest sides: a square's height is evened up, and then the width too.
  for (const longest of [96, 95, 97, 33, 31]) {
    const kwargs = { size: { longest_edge: longest } };
    const processor = ImageProcessor.of(ctx.modelConfig).config(kwargs);
    const most = getMaxIdefics3ImageTokens(ctx, kwargs);
    let found = 0;
    for (let height = 1; height <= 120; height++) {
      for (let width = 1; width <= 120; width++) {
        const { rows, cols } = idefics3Grid(height, width, processor);
        found = Math.max(found, (rows * cols + 1) * 4);
      }
    }
    expect(found).toBe(most);
  }
});

test('a picture given as features is written without tiles, or by its rows and cols', async () => {
  const rows = (count: number) => new Tensor('float32', [count, 48], new Float32Array(count * 48));
  const int = (n: number) => new Tensor('int64', [1], BigInt64Array.of(BigInt(n)));
  expect(await imageTokens(await expanded(rows(4)))).toBe(4);
  expect(await imageTokens(await expanded({ imageEmbeds: rows(28), rows: int(3), cols: int(2) }))).toBe(28);
  await expect(expanded(rows(28))).rejects.toMatchObject({ code: 'ERR_IMAGE_EMBEDS' });
});

test('doImageSplitting of a call counts', async () => {
  expect(await imageTokens(await expanded(picture(300, 100)))).toBe(16);
  expect(await imageTokens(await expanded(picture(300, 100), { doImageSplitting: false }))).toBe(4);
});

test('more or fewer placeholders than pictures are refused', async () => {
  const ctx = await context();
  const inputs = { promptTokenIds: [1, 2], multiModalData: { image: [picture(8, 8)] } };
  expect(() => inputProcessorForIdefics3(ctx, inputs, {})).toThrow(
    expect.objectContaining({ code: 'ERR_PLACEHOLDER_COUNT' }),
  );
});

test('places are those of the reference: equal to the patch at most sides, not at all', () => {
  const plain = (side: number): boolean => bucketPlaces(side).every((place, i) => place === i);
  for (const side of [4, 6, 16, 26, 27, 32]) expect([side, plain(side)]).toEqual([side, true]);
  for (const side of [19, 25, 29, 31, 38, 40]) expect([side, plain(side)]).toEqual([side, false]);
});
