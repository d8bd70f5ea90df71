/** What is wrong with pictures, grids and configurations, for every family with pictures: a coded error before anything is scheduled. */
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { estimateMemory, LLM, Tensor } from '../../dist/index';
import { codeOf, picture } from '../registries/support';
import { fixtureModels } from './fixtures';

interface Family {
  name: string;
  /** What stands for a picture in a prompt. */
  mark: string;
  /** Of pictures that are nearly a line; the others squash, tile or crop them. */
  thin?: { code: string; ratio: number };
  /** Embeddings of six rows beside grids or sizes that say otherwise. */
  grid?: Record<string, unknown>;
}

const ints = (...values: number[]): Tensor =>
  new Tensor('int64', [1, values.length], BigInt64Array.from(values, BigInt));
const qwen = {
  mark: '<|image_pad|>',
  thin: { code: 'ERR_IMAGE_ASPECT', ratio: 200 },
  grid: { imageGridThw: ints(1, 4, 8) },
};
// Refused at the same ratio as Qwen's.
const pixtral = { mark: '[IMG]', thin: { code: 'ERR_IMAGE_ASPECT', ratio: 200 }, grid: { imageSizes: ints(16, 64) } };

const families: Family[] = [
  // 56 pixels across and 224,000 down, of which the middle would be cut out.
  { name: 'llava-1.5', mark: '<image>', thin: { code: 'ERR_IMAGE_SIZE', ratio: 1200 } },
  { name: 'llava-siglip', mark: '<image>' },
  { name: 'llava-next-mistral', mark: '<image>' },
  { name: 'llava_onevision', mark: '<image>' },
  { name: 'qwen2_vl', ...qwen },
  { name: 'qwen2_5_vl', ...qwen },
  { name: 'qwen3_vl', ...qwen },
  { name: 'smolvlm', mark: '<image>' },
  { name: 'idefics3', mark: '<image>' },
  { name: 'internvl', mark: '<IMG_CONTEXT>' },
  { name: 'gemma3', mark: '<start_of_image>', grid: {} },
  { name: 'paligemma', mark: '<image>' },
  { name: 'pixtral', ...pixtral },
  { name: 'mistral3', ...pixtral },
];

test('every family with pictures is here', () => {
  const withPictures = readdirSync(fixtureModels).filter((name) => {
    const config = join(fixtureModels, name, 'config.json');
    return name !== 'images' && readFileSync(config, 'utf8').includes('"vision_config"');
  });
  expect(families.map((f) => f.name).sort()).toEqual(withPictures.sort());
});

const sizes = [
  [1, 1],
  [1, 4000],
  [4000, 1],
  [3, 700],
  [1000, 3],
] as const;

describe.each(families)('$name', ({ name, mark, thin, grid }) => {
  let llm: LLM;
  beforeAll(async () => {
    llm = await LLM.load(join(fixtureModels, name), { dtype: 'float32', limitMmPerPrompt: { image: 1 } });
  });
  afterAll(() => llm.dispose());

  const ask = (image: unknown, prompt = mark): Promise<unknown> =>
    llm.generate({ prompt, multiModalData: { image: image as never } }, { maxTokens: 1, temperature: 0 });

  /** The code, and that no token of the request has been scheduled. */
  async function refused(body: () => Promise<unknown>): Promise<string | undefined> {
    const before = llm.stats().promptTokens;
    const code = await codeOf(body);
    if (code !== undefined) expect(llm.stats()).toMatchObject({ promptTokens: before, running: 0, waiting: 0 });
    return code;
  }

  test.each(sizes)('a picture of %d x %d', async (width, height) => {
    const ratio = Math.max(width, height) / Math.min(width, height);
    const expected = thin && ratio > thin.ratio ? thin.code : undefined;
    expect(await refused(() => ask(picture(width, height)))).toBe(expected);
  });

  test('more pictures than are allowed, than placeholders, and a prompt longer than the model', async () => {
    const two = [picture(9, 9), picture(9, 9)];
    expect(await refused(() => ask(two, mark + mark))).toBe('ERR_MM_LIMIT');
    expect(await refused(() => ask(picture(9, 9), mark + mark))).toBe('ERR_PLACEHOLDER_COUNT');
    const long = 'word '.repeat(llm.modelConfig.maxModelLen < 5000 ? 5000 : 0);
    if (long !== '') expect(await refused(() => ask(picture(9, 9), mark + long))).toBe('ERR_PROMPT_TOO_LONG');
  });

  test('rows that a grid, a size or the family contradicts', async () => {
    const width = (llm.modelConfig.textConfig as { hidden_size: number }).hidden_size;
    const features = (columns: number): Tensor => new Tensor('float32', [6, columns], new Float32Array(6 * columns));
    expect(await refused(() => ask(features(width + 1)))).toBe('ERR_IMAGE_EMBEDS');
    if (grid === undefined) return;
    const code = await refused(() => ask({ imageEmbeds: features(width), ...grid }));
    expect(code).toMatch(/^ERR_(MM_INPUTS|IMAGE_SIZE|IMAGE_EMBEDS|PLACEHOLDER_COUNT|MM_ROWS)$/);
  });
});

type Json = Record<string, unknown>;

describe.each(families)('a configuration of $name', ({ name }) => {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-bad-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const config = JSON.parse(readFileSync(join(fixtureModels, name, 'config.json'), 'utf8')) as Json;
  cpSync(join(fixtureModels, name, 'config.json'), join(folder, 'config.json'));
  for (const file of readdirSync(join(fixtureModels, name)))
    if (file !== 'config.json') symlinkSync(join(fixtureModels, name, file), join(folder, file));
  const vision = config.vision_config as Json;
  const nested = config.text_config !== undefined;
  const heads = vision.num_heads === undefined ? 'num_attention_heads' : 'num_heads';

  /** [the field that the error names, part, changes] */
  const cases: [string, 'vision' | 'text' | 'whole', Json][] = [
    ['vision_config.patch_size', 'vision', { patch_size: 0 }],
    ['vision_config.patch_size', 'vision', { patch_size: 100000 }],
    ['vision_config.patch_size', 'vision', { patch_size: '14' }],
    [`vision_config.${heads}`, 'vision', { [heads]: 7 }],
    ['vision_config', 'whole', { vision_config: 5 }],
    ['text_config.head_dim', 'text', { head_dim: 3 }],
    ['text_config.hidden_size', 'text', { hidden_size: -1 }],
    ['text_config.num_key_value_heads', 'text', { num_key_value_heads: 3 }],
    ['rope_scaling.rope_type', 'text', { rope_scaling: { rope_type: 'spiral', factor: 2 } }],
    ['rope_scaling.rope_type', 'text', { rope_scaling: null, rope_parameters: { rope_type: 'spiral' } }],
    ['image_token_id', 'whole', { image_token_index: undefined, image_token_id: 9999999 }],
    ['image_token_index', 'whole', { image_token_id: undefined, image_token_index: 9999999 }],
    // Each field once more by its kind: what a billion layers or patches would be traced to, and types of other families.
    ['text_config.num_hidden_layers', 'text', { num_hidden_layers: 1e6 }],
    ['text_config.rope_theta', 'text', { rope_theta: 1e-300 }],
    ['text_config.partial_rotary_factor', 'text', { partial_rotary_factor: -1 }],
    ['vision_config.model_type', 'vision', { model_type: 'text' }],
    [
      `vision_config.${heads === 'num_heads' ? 'in_channels' : 'num_channels'}`,
      'vision',
      { num_channels: 4, in_channels: 4 },
    ],
    ['image_token_index', 'whole', { image_token_index: 3, image_token_id: 4 }],
    ['model_type', 'whole', { model_type: undefined }],
    ...(vision.image_size === undefined || /pixtral|mistral3/.test(name)
      ? []
      : [['vision_config.image_size', 'vision', { image_size: 999 }] as [string, 'vision', Json]]),
    ...(nested
      ? [
          ['text_config.model_type', 'text', { model_type: /gemma/.test(name) ? 'llama' : 'gemma2' }] as [
            string,
            'text',
            Json,
          ],
        ]
      : []),
    ...(vision.temporal_patch_size === undefined
      ? []
      : ([
          ['rope_scaling.mrope_section', 'text', { rope_scaling: { rope_type: 'default', mrope_section: 5 } }],
          ['rope_scaling.mrope_section', 'text', { rope_scaling: { rope_type: 'default', mrope_section: [1, 1] } }],
          ['vision_config.patch_size', 'vision', { patch_size: 7 }],
          ['vision_config.spatial_merge_size', 'vision', { spatial_merge_size: 3 }],
          ['vision_config.temporal_patch_size', 'vision', { temporal_patch_size: 1 }],
        ] as [string, 'vision' | 'text', Json][])),
  ];

  test.each(cases)('%s: %s %p', async (field, part, change) => {
    const changed = structuredClone(config);
    const of = { whole: changed, vision: changed.vision_config, text: nested ? changed.text_config : changed }[part];
    Object.assign(of as Json, change);
    writeFileSync(join(folder, 'config.json'), JSON.stringify(changed));
    const error = await estimateMemory(folder, { maxModelLen: 128 }).then(
      () => undefined,
      (e: unknown) => e as { code: string; details?: { field?: string } },
    );
    expect(error?.details?.field).toMatch(new RegExp(`(^|\\.)${field.replace(/.*text_config\./, '')}$`));
    expect(error?.code).toMatch(/^ERR_(CONFIG|IMAGE_SIZE)$/);
  });
});
