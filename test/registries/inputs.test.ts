/** INPUT_REGISTRY: dummy data for profiling and input processors (vLLM v0.6.3, vllm/inputs/registry.py). */
import type { DummyData, LLMInputs } from '../../dist/inputs/registry';
import { codeOf, configOf, picture, registries, warningsOf } from './support';

class Model {}

function profiling(
  limits: Record<string, number>,
  register: (r: ReturnType<typeof registries>['input']) => void,
  seqLen = 10,
  encoder = false,
): Promise<DummyData> {
  const { multiModal, input } = registries();
  register(input);
  const config = configOf(Model, { limits });
  multiModal.initMmLimitsPerPrompt(config);
  return input.dummyDataForProfiling(config, seqLen, multiModal, encoder);
}

const images = (n: number): DummyData['multiModalData'] => ({ image: Array.from({ length: n }, () => picture(1, 1)) });

describe('dummy data', () => {
  test('is zeros where nothing is registered', async () => {
    expect(await profiling({}, () => undefined, 4)).toEqual({ promptTokenIds: [0, 0, 0, 0] });
  });

  test('comes from the factory, which sees context, length and limits', async () => {
    const seen: unknown[] = [];
    const data = await profiling({ image: 3 }, (r) =>
      r.registerDummyData((ctx, seqLen, counts) => {
        seen.push(ctx.modelConfig.modelClass, seqLen, { ...counts });
        return Promise.resolve({ promptTokenIds: new Array<number>(seqLen).fill(7), multiModalData: images(3)! });
      })(Model),
    );
    expect(seen).toEqual([Model, 10, { image: 3, audio: 1, video: 1 }]);
    expect(data.promptTokenIds).toEqual(new Array(10).fill(7));
  });

  test('has at least seqLen tokens and as many items as the limit; more is fine', async () => {
    const give = (tokens: number, items: number) => () =>
      profiling({ image: 2 }, (r) =>
        r.registerDummyData(() => ({
          promptTokenIds: new Array<number>(tokens).fill(0),
          multiModalData: images(items)!,
        }))(Model),
      );
    expect(await codeOf(give(9, 2))).toBe('ERR_DUMMY_DATA');
    expect(await codeOf(give(10, 1))).toBe('ERR_DUMMY_DATA');
    expect(await codeOf(give(10, 2))).toBeUndefined();
    expect(await codeOf(give(99, 5))).toBeUndefined();
  });

  test('asked for a modality that no plugin has is an error', async () => {
    const ask = () =>
      profiling({}, (r) =>
        r.registerDummyData((_ctx, seqLen, counts) => ({
          promptTokenIds: new Array<number>(seqLen).fill(counts.touch!),
        }))(Model),
      );
    expect(await codeOf(ask)).toBe('ERR_UNKNOWN_MODALITY');
  });

  test('does not pass the input processor', async () => {
    const data = await profiling({}, (r) => {
      r.registerDummyData((_ctx, seqLen) => ({ promptTokenIds: new Array<number>(seqLen).fill(5) }))(Model);
      r.registerInputProcessor(() => {
        throw new Error('called');
      })(Model);
    });
    expect(data.promptTokenIds[0]).toBe(5);
  });

  test('of an encoder may be short: that only warns', async () => {
    const short = (r: ReturnType<typeof registries>['input']): unknown =>
      r.registerDummyEncoderData(() => ({ promptTokenIds: [1] }))(Model);
    const warnings = await warningsOf(async () =>
      expect(await profiling({}, short, 10, true)).toEqual({ promptTokenIds: [1] }),
    );
    expect(warnings.map((w) => w.code)).toEqual(['WARN_DUMMY_DATA']);
    expect(warnings[0]!.message).toContain('at least 10');
  });

  test('of an encoder is the model’s dummy data where no other is registered, with a warning', async () => {
    const plain = (r: ReturnType<typeof registries>['input']): unknown =>
      r.registerDummyData((_ctx, n) => ({ promptTokenIds: new Array<number>(n).fill(3) }))(Model);
    const warnings = await warningsOf(async () =>
      expect((await profiling({}, plain, 2, true)).promptTokenIds).toEqual([3, 3]),
    );
    expect(warnings.map((w) => w.code)).toEqual(['WARN_DUMMY_DATA']);
  });
});

describe('input processors', () => {
  const inputs: LLMInputs = { promptTokenIds: [1, 2], prompt: 'ab', mmProcessorKwargs: { a: 1 } };

  test('the default returns the same object', async () => {
    const { input } = registries();
    expect(await input.processInput(configOf(Model), inputs)).toBe(inputs);
    expect(await input.createInputProcessor(configOf(Model))(inputs)).toBe(inputs);
    expect(input.hasInputProcessor(Model)).toBe(false);
  });

  test('a registered one may be asynchronous and sees the context', async () => {
    const { input } = registries();
    input.registerInputProcessor(async (ctx, { promptTokenIds, ...rest }) => {
      await Promise.resolve();
      return { ...rest, promptTokenIds: [...promptTokenIds, ctx.modelConfig.model.length] };
    })(Model);
    expect((await input.processInput(configOf(Model), inputs)).promptTokenIds).toEqual([1, 2, 7]);
    expect(input.hasInputProcessor(Model)).toBe(true);
  });

  test('a configuration of another family is refused', async () => {
    const { input } = registries();
    input.registerInputProcessor((ctx, given) => (ctx.getHfConfig('llava'), given))(Model);
    expect(await codeOf(() => input.processInput(configOf(Model), inputs))).toBe('ERR_HF_CONFIG');
  });
});

test('registering something that is no function is refused at once; again on the same class warns', async () => {
  const { input } = registries();
  for (const register of [input.registerDummyData, input.registerDummyEncoderData, input.registerInputProcessor]) {
    expect(await codeOf(() => register.call(input, undefined as never))).toBe('ERR_REGISTRY');
    const once = register.bind(input) as (hook: () => DummyData) => (c: typeof Model) => void;
    const warnings = await warningsOf(() => [1, 2].forEach(() => once(() => ({ promptTokenIds: [] }))(Model)));
    expect(warnings.map((w) => w.code)).toEqual(['WARN_REREGISTERED']);
  }
});
