import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadNative } from '../../dist/native';
import { argmax, differing, largestDifference, logSumExp, relativeError, strain } from '../goldens/compare';
import { unexpectedFailures } from '../goldens/known-misses';
import { runFolder } from '../goldens/run';
import { fixtureModels } from './fixtures';

const backends = ['ref', 'cpu', ...loadNative().info().isas];
const folders = [
  'llama',
  'qwen3',
  'phi3',
  'gemma2',
  'smolvlm',
  'idefics3',
  'internvl',
  'gemma3',
  'paligemma',
  'pixtral',
  'mistral3',
  'llava-1.5',
  'llava-siglip',
  'llava-next-mistral',
  'llava_onevision',
  'qwen2_vl',
  'qwen2_5_vl',
  'qwen3_vl',
];
const settings = folders.flatMap((folder) =>
  backends.flatMap((backend) => (['float32', 'bfloat16'] as const).map((dtype) => [folder, backend, dtype] as const)),
);

test.each(settings)('%s on %s in %s', async (folder, backend, dtype) => {
  const report = await runFolder(join(fixtureModels, folder), { backend, dtype, threads: 2 });
  expect(report.skipped).toBeUndefined();
  expect(report.cases.length).toBeGreaterThan(0);
  expect(unexpectedFailures(report)).toEqual([]);
});

type Config = { text_config: object; [field: string]: unknown };

describe('what the bounds must see', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-goldens-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  async function broken(change: (config: Config) => void): Promise<string[]> {
    const path = join(folder, 'llava-1.5');
    cpSync(join(fixtureModels, 'llava-1.5'), path, { recursive: true });
    cpSync(join(fixtureModels, 'images'), join(folder, 'images'), { recursive: true });
    const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')) as Config;
    change(config);
    writeFileSync(join(path, 'config.json'), JSON.stringify(config));
    const report = await runFolder(path, { backend: 'ref', dtype: 'float32', threads: 2 });
    expect(report.ok).toBe(false);
    const picture = report.cases.find((c) => c.name === 'one_image')!;
    return picture.failures.map((f) => f.what);
  }

  test('an RMSNorm eps of 1e-6 for 1e-5', async () => {
    const failures = await broken(({ text_config: text }) => Object.assign(text, { rms_norm_eps: 1e-6 }));
    expect(failures).toContain('hidden.1');
    expect(failures).not.toContain('image_features');
  });

  test('a tanh GELU for the exact one', async () => {
    const failures = await broken((config) => Object.assign(config, { projector_hidden_act: 'gelu_pytorch_tanh' }));
    expect(failures).toContain('image_features');
    expect(failures).not.toContain('vision_hidden.2');
  });

  test('features of another block', async () => {
    const failures = await broken((config) => Object.assign(config, { vision_feature_layer: -1 }));
    expect(failures).toContain('image_features');
  });
});

describe('measures', () => {
  test('relativeError is the larger of magnitude and rows', () => {
    expect(relativeError([1, 2, 3, 4], [1, 2, 3, 4], 2)).toBe(0);
    // 1e-3 of a large tensor is nothing, of a small row a third.
    expect(relativeError([1000, 0, 0.004, 0], [1000, 0, 0.003, 0], 2)).toBeCloseTo(1 / 3, 10);
    expect(relativeError([1000.5, 1000], [1000, 1000], 2)).toBeCloseTo(5e-4, 10);
    expect(relativeError([1, NaN], [1, 2], 2)).toBe(Infinity);
    expect(relativeError([0, 1e-9], [0, 0], 2)).toBe(Infinity);
    expect(relativeError([1], [1, 2], 2)).toBe(Infinity);
  });

  test('differing counts bits, not values', () => {
    expect(differing([1, 2, 3], [1, 2, 3])).toBe(0);
    expect(differing([1n, 2n], [1, 3])).toBe(1);
    expect(differing([0], [-0])).toBe(1);
    expect(differing([1, 2, 3], [1])).toBe(2);
  });

  test('a NaN is worse than any number', () => {
    expect(largestDifference([1, NaN, 2], [1, 1, 1])).toBe(Infinity);
    expect(strain({ what: '', error: NaN, bound: 1 })).toBe(Infinity);
    expect(strain({ what: '', error: 0, bound: 0 })).toBe(0);
  });

  test('argmax takes the first; logSumExp does not overflow', () => {
    expect(argmax([1, 3, 3])).toBe(1);
    expect(logSumExp([1000, 1000])).toBeCloseTo(1000 + Math.LN2, 10);
  });
});
