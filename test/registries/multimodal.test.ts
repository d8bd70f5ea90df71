/** MULTIMODAL_REGISTRY: plugins, mappers, maximum tokens, limits (vLLM v0.6.3, vllm/multimodal/registry.py and base.py). */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { MultiModalPlugin, Tensor, type MultiModalData } from '../../dist/index';
import { root } from '../models/fixtures';
import { codeOf, configOf, picture, registries, shapes, warningsOf } from './support';

class Model {}

describe('plugins', () => {
  class Smell extends MultiModalPlugin {
    getDataKey = (): string => 'smell';
    defaultInputMapper = (_ctx: unknown, data: unknown) => ({ smellValues: data });
    defaultMaxMultimodalTokens = (): number => 3;
  }

  test('image, audio and video come with the registry', () => {
    expect(registries().multiModal.modalities).toEqual(['image', 'audio', 'video']);
  });

  test('a modality of its own has defaults, limits and mappers like any other', async () => {
    const { multiModal } = registries();
    multiModal.registerPlugin(new Smell());
    multiModal.registerInputMapper('smell')(Model);
    multiModal.registerMaxMultimodalTokens('smell')(Model);
    const config = configOf(Model, { limits: { smell: 2 } });
    multiModal.initMmLimitsPerPrompt(config);
    expect(multiModal.getMaxTokensByModality(config)).toEqual({ image: 0, audio: 0, video: 0, smell: 6 });
    const smells = [1, 2].map((n) => new Tensor('float32', [1], Float32Array.of(n)));
    expect(shapes(await multiModal.mapInput(config, { smell: smells }))).toEqual({ smellValues: [2, 1] });
  });

  test('a second plugin of a modality replaces the first, with a warning', async () => {
    const { multiModal } = registries();
    const next = new Smell();
    expect(await warningsOf(() => multiModal.registerPlugin(new Smell()))).toEqual([]);
    const warnings = await warningsOf(() => multiModal.registerPlugin(next));
    expect(warnings.map((w) => w.code)).toEqual(['WARN_REREGISTERED']);
    expect(multiModal.getPlugin('smell')).toBe(next);
  });

  test('an unknown modality is an error that lists the known ones', async () => {
    const { multiModal } = registries();
    expect(() => multiModal.getPlugin('imgae')).toThrow(
      expect.objectContaining({ code: 'ERR_UNKNOWN_MODALITY', hint: expect.stringContaining('image') }),
    );
    const config = configOf(Model);
    multiModal.initMmLimitsPerPrompt(config);
    expect(await codeOf(() => multiModal.registerInputMapper('touch')(Model))).toBe('ERR_UNKNOWN_MODALITY');
    expect(await codeOf(() => multiModal.mapInput(config, { touch: [1] }))).toBe('ERR_UNKNOWN_MODALITY');
  });
});

describe('registration', () => {
  const mapper = () => ({});

  test('as a TC39 decorator, an experimental one, and a plain call', () => {
    const { multiModal } = registries();
    const decorate = multiModal.registerImageInputMapper(mapper);
    @decorate
    class Standard {}
    class Plain {}
    class Experimental {}
    expect(decorate(Plain)).toBe(Plain);
    // TypeScript's experimentalDecorators calls with the class alone, as its compiled code does here.
    const Decorated = [decorate].reduceRight((value, apply) => apply(value) ?? value, Experimental);
    for (const modelClass of [Standard, Plain, Decorated])
      expect(multiModal.getPlugin('image').hasInputMapper(modelClass)).toBe(true);
  });

  test('under TC39 the entry is on the class that the last decorator leaves', () => {
    const { multiModal } = registries();
    const replaced: unknown[] = [];
    const wrap = <T extends new (...args: never[]) => object>(value: T, _context: ClassDecoratorContext<T>): T => {
      replaced.push(value);
      const Other = class {} as unknown as T;
      return Other;
    };
    @wrap
    @multiModal.registerImageInputMapper(mapper)
    class Final {}
    expect(replaced).toHaveLength(1);
    expect(multiModal.getPlugin('image').hasInputMapper(Final)).toBe(true);
    expect(multiModal.getPlugin('image').hasInputMapper(replaced[0] as typeof Final)).toBe(false);
  });

  test('again on the same class warns, and the new one counts', async () => {
    const { multiModal } = registries();
    const warnings = await warningsOf(() => {
      multiModal.registerMaxImageTokens(3)(Model);
      multiModal.registerMaxImageTokens(4)(Model);
      multiModal.registerImageInputMapper(mapper)(Model);
      multiModal.registerImageInputMapper(mapper)(Model);
    });
    expect(warnings.map((w) => w.code)).toEqual(['WARN_REREGISTERED', 'WARN_REREGISTERED']);
    const config = configOf(Model);
    multiModal.initMmLimitsPerPrompt(config);
    expect(multiModal.getMaxMultimodalTokens(config)).toBe(4);
  });

  test('a subclass has its parent’s hooks until it registers its own', () => {
    const { multiModal } = registries();
    class Child extends Model {}
    multiModal.registerMaxImageTokens(3)(multiModal.registerImageInputMapper(mapper)(Model));
    const config = configOf(Child);
    multiModal.initMmLimitsPerPrompt(config);
    expect(multiModal.getMaxMultimodalTokens(config)).toBe(3);
    multiModal.registerMaxImageTokens(5)(Child);
    expect(multiModal.getMaxMultimodalTokens(config)).toBe(5);
  });

  test('of the wrong kind is refused at once', async () => {
    const { multiModal } = registries();
    expect(await codeOf(() => multiModal.registerImageInputMapper('x' as never)(Model))).toBe('ERR_REGISTRY');
    expect(await codeOf(() => multiModal.registerImageInputMapper()({} as never))).toBe('ERR_REGISTRY');
    for (const max of [0, -1, 1.5, NaN])
      expect(await codeOf(() => multiModal.registerMaxImageTokens(max)(Model))).toBe('ERR_MAX_MM_TOKENS');
    expect(await codeOf(() => multiModal.registerMaxImageTokens('9' as never)(Model))).toBe('ERR_MAX_MM_TOKENS');
  });

  test('one pair of registries per process, whichever copy of the package asks; the second copy warns', () => {
    const copy = mkdtempSync(join(root, 'out', 'second-copy-'));
    try {
      cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true });
      const script = `
        process.on('warning', (w) => console.log(w.code, w.message.includes(${JSON.stringify(copy)})));
        const [first, second] = [${JSON.stringify(join(root, 'dist'))}, ${JSON.stringify(join(copy, 'dist'))}].map(require);
        console.log(first.LLM !== second.LLM, first.MULTIMODAL_REGISTRY === second.MULTIMODAL_REGISTRY, first.INPUT_REGISTRY === second.INPUT_REGISTRY);`;
      const lines = execFileSync(process.execPath, ['-e', script], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      })
        .trim()
        .split('\n');
      expect(lines).toEqual(['true true true', 'WARN_TWO_COPIES true']);
    } finally {
      rmSync(copy, { recursive: true });
    }
  });
});

test('supports tells whether a class has a mapper of any modality', () => {
  const { multiModal } = registries();
  class Hearing {}
  multiModal.registerAudioInputMapper(() => ({}))(Hearing);
  multiModal.registerMaxImageTokens(3)(Model);
  expect([Hearing, Model].map((modelClass) => multiModal.supports({ modelClass }))).toEqual([true, false]);
});

describe('maximum tokens', () => {
  function maximum(register: (r: ReturnType<typeof registries>['multiModal']) => void, limit = 1): number {
    const { multiModal } = registries();
    register(multiModal);
    const config = configOf(Model, { limits: { image: limit } });
    multiModal.initMmLimitsPerPrompt(config);
    return multiModal.getMaxMultimodalTokens(config);
  }

  test('are the sum over modalities of limit times maximum; a number, or a function of the context', () => {
    const each = (r: ReturnType<typeof registries>['multiModal']): void => {
      r.registerImageInputMapper(() => ({}))(Model);
      r.registerMaxImageTokens((ctx) => String(ctx.getHfConfig().model_type).length)(Model);
      r.registerVideoInputMapper(() => ({}))(Model);
      r.registerMaxMultimodalTokens('video', 100)(Model);
    };
    expect(maximum(each)).toBe(107);
    expect(maximum(each, 3)).toBe(121);
  });

  test('are the modality’s default where a model registers none of its own: 3000 and 4096', () => {
    const plain = (r: ReturnType<typeof registries>['multiModal']): void => {
      r.registerImageInputMapper()(Model);
      r.registerMaxImageTokens()(Model);
    };
    expect(maximum(plain)).toBe(3000);
    expect(
      maximum((r) => {
        plain(r);
        r.registerVideoInputMapper()(Model);
        r.registerMaxMultimodalTokens('video')(Model);
      }),
    ).toBe(7096);
  });

  test('are 0 for a model without mappers', () => {
    expect(maximum(() => undefined)).toBe(0);
  });

  test('must be registered for a model that has a mapper, and be an integer of at least 1', async () => {
    const mapped = (max?: number) => () =>
      maximum((r) => {
        r.registerImageInputMapper(() => ({}))(Model);
        if (max !== undefined) r.registerMaxImageTokens(() => max)(Model);
      });
    expect(await codeOf(mapped())).toBe('ERR_NO_MAX_MM_TOKENS');
    for (const max of [0, 2.5, Infinity]) expect(await codeOf(mapped(max))).toBe('ERR_MAX_MM_TOKENS');
    expect(await codeOf(mapped(1))).toBeUndefined();
  });

  test('of audio have no default, and neither has its mapper', async () => {
    const { multiModal } = registries();
    multiModal.registerAudioInputMapper()(Model);
    multiModal.registerMaxMultimodalTokens('audio')(Model);
    const config = configOf(Model);
    multiModal.initMmLimitsPerPrompt(config);
    expect(await codeOf(() => multiModal.mapInput(config, { audio: [1] }))).toBe('ERR_NO_DEFAULT_MAPPER');
    expect(await codeOf(() => multiModal.getMaxMultimodalTokens(config))).toBe('ERR_NO_MAX_MM_TOKENS');
  });
});

describe('limits per prompt', () => {
  test('are 1 by default, as set otherwise, and 0 for a text model', () => {
    const { multiModal } = registries();
    const limits = (options: Parameters<typeof configOf>[1]): unknown => {
      const config = configOf(Model, options);
      multiModal.initMmLimitsPerPrompt(config);
      return multiModal.getMmLimitsPerPrompt(config);
    };
    expect(limits({})).toEqual({ image: 1, audio: 1, video: 1 });
    expect(limits({ limits: { image: 16, video: 0 } })).toEqual({ image: 16, audio: 1, video: 0 });
    expect(limits({ text: true })).toEqual({ image: 0, audio: 0, video: 0 });
  });

  test('of unknown modalities warn and are ignored', async () => {
    const { multiModal } = registries();
    const config = configOf(Model, { limits: { imgae: 2 } });
    const warnings = await warningsOf(() => multiModal.initMmLimitsPerPrompt(config));
    expect(warnings.map((w) => w.code)).toEqual(['WARN_UNKNOWN_MODALITY']);
    expect(multiModal.getMmLimitsPerPrompt(config)).toEqual({ image: 1, audio: 1, video: 1 });
  });

  test('must be known before items are mapped or counted', async () => {
    const { multiModal } = registries();
    multiModal.registerImageInputMapper(() => ({}))(Model);
    const config = configOf(Model);
    for (const use of [
      () => multiModal.getMmLimitsPerPrompt(config),
      () => multiModal.mapInput(config, {}),
      () => multiModal.getMaxMultimodalTokens(config),
    ])
      expect(await codeOf(use)).toBe('ERR_MM_LIMITS_NOT_INITIALISED');
  });

  test('that are no counts are refused', async () => {
    for (const image of [-1, 1.5, '2' as never])
      expect(
        await codeOf(() => registries().multiModal.initMmLimitsPerPrompt(configOf(Model, { limits: { image } }))),
      ).toBe('ERR_MM_LIMIT');
  });

  test.each([
    [0, 0, true],
    [0, 1, true],
    [1, 1, true],
    [1, 2, true],
    [2, 2, true],
    [1, 0, false],
    [2, 1, false],
  ])('%d pictures under a limit of %d: %s', async (count, limit, fits) => {
    const { multiModal } = registries();
    multiModal.registerImageInputMapper()(Model);
    const config = configOf(Model, { limits: { image: limit } });
    multiModal.initMmLimitsPerPrompt(config);
    const pictures = Array.from({ length: count }, () => picture(9, 8));
    for (const data of [{ image: pictures }, ...(count === 1 ? [{ image: pictures[0]! }] : [])] as MultiModalData[]) {
      const mapped = multiModal.mapInput(config, data);
      if (fits) expect(shapes(await mapped)).toEqual(count === 0 ? {} : { pixelValues: [count, 3, 8, 8] });
      else
        await expect(mapped).rejects.toMatchObject({
          code: 'ERR_MM_LIMIT',
          message: `Expected at most ${limit} image item${limit === 1 ? '' : 's'} in one prompt but received ${count}`,
          details: { modality: 'image', limit, received: count },
        });
    }
  });
});

describe('mapInput', () => {
  test('merges what the mappers of all modalities give; the same keyword from two is an error', async () => {
    const { multiModal } = registries();
    const tensor = new Tensor('float32', [1, 2], new Float32Array(2));
    multiModal.registerImageInputMapper(() => ({ a: tensor }))(Model);
    multiModal.registerVideoInputMapper(() => ({ b: tensor }))(Model);
    multiModal.registerAudioInputMapper(() => ({ b: tensor }))(Model);
    const config = configOf(Model);
    multiModal.initMmLimitsPerPrompt(config);
    const data = { image: picture(1, 1), video: [picture(1, 1)] };
    expect(Object.keys(await multiModal.mapInput(config, data))).toEqual(['a', 'b']);
    await expect(multiModal.mapInput(config, { ...data, audio: 1 })).rejects.toMatchObject({
      code: 'ERR_MAPPER_CONFLICT',
      details: { modality: 'audio', keyword: 'b' },
    });
  });

  test('needs a mapper on the class for every modality that the data has', async () => {
    const { multiModal } = registries();
    const config = configOf(Model);
    multiModal.initMmLimitsPerPrompt(config);
    expect(await codeOf(() => multiModal.mapInput(config, { image: picture(1, 1) }))).toBe('ERR_NO_INPUT_MAPPER');
    expect(await multiModal.mapInput(config, { image: undefined })).toEqual({});
  });

  test('createInputMapper is mapInput of one model', async () => {
    const { multiModal } = registries();
    multiModal.registerImageInputMapper()(Model);
    const config = configOf(Model);
    multiModal.initMmLimitsPerPrompt(config);
    const map = multiModal.createInputMapper(config);
    expect(shapes(await map({ image: picture(20, 10) }))).toEqual({ pixelValues: [1, 3, 8, 8] });
  });

  test('leaves the event loop free while pixels are resized', async () => {
    const { multiModal } = registries();
    multiModal.registerImageInputMapper()(Model);
    const preprocessor = { image_processor_type: 'SiglipImageProcessor', size: { height: 1500, width: 1500 } };
    const config = configOf(Model, { preprocessor });
    multiModal.initMmLimitsPerPrompt(config);
    let turns = 0;
    let done = false;
    const count = (): void => {
      turns++;
      if (!done) setImmediate(count);
    };
    setImmediate(count);
    await multiModal.mapInput(config, { image: picture(2000, 2000, 7) });
    done = true;
    expect(turns).toBeGreaterThan(2);
  });
});
