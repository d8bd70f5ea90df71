import { mkdtempSync, mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ModelConfig, checkEngineOptions, findWeightFiles } from '../../dist/config';
import '../../dist/models/registry';
import { fixtureModels } from '../models/fixtures';

const llama = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 64,
  num_attention_heads: 4,
  num_hidden_layers: 2,
};

function folderOf(files: Record<string, unknown>): string {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-config-'));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return folder;
}

const load = (config: object, options = {}) => ModelConfig.load(folderOf({ 'config.json': config }), options);

describe('config.json of both generations', () => {
  test('rope_theta and rope_scaling, or rope_parameters', async () => {
    const scaling = {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 64,
    };
    const old = await load({ ...llama, rope_theta: 5e5, rope_scaling: scaling, torch_dtype: 'bfloat16' });
    const now = await load({ ...llama, rope_parameters: { rope_theta: 5e5, ...scaling }, dtype: 'bfloat16' });
    for (const c of [old, now]) {
      expect(c.hfConfig).toMatchObject({ rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', factor: 8 } });
      expect(c.dtype).toBe('bfloat16');
    }
    const plain = await load({ ...llama, rope_parameters: { rope_theta: 1e6, rope_type: 'default' } });
    expect(plain.hfConfig).toMatchObject({ rope_theta: 1e6, rope_scaling: null });
  });

  test('defaults are those of the model_type, in parts as well', async () => {
    const text = await load(llama);
    expect(text.hfConfig).toMatchObject({
      vocab_size: 32000,
      intermediate_size: 11008,
      head_dim: 16,
      num_key_value_heads: 4,
      rope_theta: 10000,
      rms_norm_eps: 1e-6,
    });
    expect(text.maxModelLen).toBe(2048);
    expect(text.dtype).toBe('float32');
    const llava = await load({
      architectures: ['LlavaForConditionalGeneration'],
      model_type: 'llava',
      text_config: { vocab_size: 32064 },
    });
    expect(llava.hfConfig).toMatchObject({
      image_token_index: 32000,
      vision_feature_layer: -2,
      text_config: { model_type: 'llama', hidden_size: 4096 },
      vision_config: { model_type: 'clip_vision_model', hidden_size: 1024, image_size: 336, hidden_act: 'quick_gelu' },
    });
    const partial = await load({
      architectures: ['LlavaForConditionalGeneration'],
      model_type: 'llava',
      image_token_id: 7,
      text_config: { model_type: 'mistral' },
      vision_config: { hidden_size: 96 },
    });
    expect(partial.hfConfig).toMatchObject({
      image_token_index: 7,
      text_config: { num_key_value_heads: 8 },
      vision_config: { hidden_size: 96, patch_size: 32 },
    });
    expect(partial.multimodalConfig).toEqual({ limitPerPrompt: {}, mmProcessorKwargs: {} });
    expect(text.multimodalConfig).toBeUndefined();
  });

  test.each<[string, object]>([
    ['hidden_size', { hidden_size: '64' }],
    ['hidden_size', { hidden_size: -1 }],
    ['num_hidden_layers', { num_hidden_layers: 1.5 }],
    ['num_attention_heads', { num_attention_heads: 5 }],
    ['num_key_value_heads', { num_key_value_heads: 3 }],
    ['rms_norm_eps', { rms_norm_eps: 0 }],
    ['rope_theta', { rope_theta: 1e4, rope_parameters: { rope_theta: 1e6 } }],
    [
      'rope_scaling.rope_type',
      { rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: { rope_type: 'llama3' } },
    ],
    ['rope_scaling', { rope_scaling: 'linear' }],
    ['tie_word_embeddings', { tie_word_embeddings: 'no' }],
    ['torch_dtype', { torch_dtype: 'int4' }],
    ['model_type', { model_type: undefined }],
    ['architectures', { architectures: [] }],
    ['architectures', { architectures: 'LlamaForCausalLM' }],
  ])('a wrong %s is named', async (field, change) => {
    await expect(load({ ...llama, ...change })).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message: expect.stringContaining(field),
      details: { field },
    });
  });

  test.each<[string, object]>([
    ['image_token_index', { image_token_index: 32000, text_config: { vocab_size: 32000 } }],
    ['vision_feature_select_strategy', { vision_feature_select_strategy: 'some' }],
    ['vision_feature_layer', { vision_feature_layer: 'last' }],
    ['text_config.vocab_size', { text_config: { vocab_size: 0 } }],
    ['vision_config.patch_size', { vision_config: { patch_size: null, hidden_size: 'x' } }],
    ['vision_config', { vision_config: [] }],
  ])('a wrong %s of a multimodal model is named', async (field, change) => {
    const base = {
      architectures: ['LlavaForConditionalGeneration'],
      model_type: 'llava',
      text_config: { vocab_size: 32064 },
    };
    const expected = field === 'vision_config.patch_size' ? 'vision_config.hidden_size' : field;
    await expect(load({ ...base, ...change })).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message: expect.stringContaining(expected),
    });
  });

  test('files that are not JSON objects', async () => {
    for (const text of ['{', '[]', 'null']) {
      await expect(ModelConfig.load(folderOf({ 'config.json': text }))).rejects.toMatchObject({
        code: 'ERR_CONFIG_FILE',
      });
    }
    const folder = folderOf({ 'config.json': llama, 'generation_config.json': { temperature: 'hot' } });
    await expect(ModelConfig.load(folder)).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      details: { field: 'temperature' },
    });
  });
});

test('generation_config.json', async () => {
  const folder = folderOf({
    'config.json': { ...llama, eos_token_id: 2 },
    'generation_config.json': { eos_token_id: [7, 8], temperature: 0.6, top_k: 0, max_new_tokens: 9 },
  });
  const config = await ModelConfig.load(folder);
  expect(config.generationConfig).toEqual({
    eosTokenIds: [7, 8],
    sampling: { temperature: 0.6, topK: -1, maxTokens: 9 },
  });
  expect((await load({ ...llama, eos_token_id: 2 })).generationConfig.eosTokenIds).toEqual([2]);
});

describe('options', () => {
  test('an unknown one has a nearest name', () => {
    expect(() => checkEngineOptions({ maxModelLength: 3 } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_UNKNOWN_OPTION', hint: "Did you mean 'maxModelLen'?" }),
    );
  });

  test.each([
    { dtype: 'float64' },
    { threads: 0 },
    { maxModelLen: 1.5 },
    { blockSize: 12 },
    { gpuMemoryUtilization: 1.1 },
    { enablePrefixCaching: 'yes' },
    { limitMmPerPrompt: { image: -1 } },
    { allowedMediaDomains: 'x' },
    { device: 'tpu' },
    { signal: {} },
    { onProgress: 3 },
    { maxNumSeqs: null },
  ])('%p is refused', (options) => {
    expect(() => checkEngineOptions(options as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION', message: expect.stringContaining(Object.keys(options)[0]!) }),
    );
  });

  test('undefined means absent; what a model cannot do is refused', async () => {
    expect(checkEngineOptions({ threads: undefined, seed: 1 })).toEqual({ seed: 1 });
    await expect(load(llama, { maxModelLen: 4096 })).rejects.toMatchObject({ code: 'ERR_OPTION' });
    await expect(load(llama, { limitMmPerPrompt: { image: 1 } })).rejects.toMatchObject({ code: 'ERR_OPTION' });
    expect((await load(llama, { maxModelLen: 100, dtype: 'float32' })).maxModelLen).toBe(100);
  });
});

describe('model names', () => {
  test('a folder, a file URL, a model of the hub cache', async () => {
    const folder = join(fixtureModels, 'llama');
    expect((await ModelConfig.load(folder)).model).toBe(folder);
    expect((await ModelConfig.load(pathToFileURL(folder))).model).toBe(folder);
    const cacheDir = mkdtempSync(join(tmpdir(), 'ocelli-hub-'));
    const base = join(cacheDir, 'models--some--thing');
    mkdirSync(join(base, 'snapshots', 'abc'), { recursive: true });
    mkdirSync(join(base, 'refs'));
    writeFileSync(join(base, 'refs', 'main'), 'abc\n');
    writeFileSync(join(base, 'snapshots', 'abc', 'config.json'), JSON.stringify(llama));
    for (const name of ['some/thing', 'some/thing@main', 'some/thing@abc']) {
      expect((await ModelConfig.load(name, { cacheDir })).model).toBe(join(base, 'snapshots', 'abc'));
    }
    await expect(ModelConfig.load('some/thing@other', { cacheDir })).rejects.toMatchObject({
      code: 'ERR_MODEL_NOT_FOUND',
    });
    await expect(ModelConfig.load('some/thing', { cacheDir, revision: '../../x' })).rejects.toMatchObject({
      code: 'ERR_MODEL_NOT_FOUND',
    });
  });

  test('what is absent says where it was looked for', async () => {
    await expect(ModelConfig.load('/no/such/folder')).rejects.toMatchObject({
      code: 'ERR_MODEL_NOT_FOUND',
      message: expect.stringContaining('/no/such/folder'),
    });
    await expect(ModelConfig.load('')).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    await expect(ModelConfig.load(folderOf({}))).rejects.toMatchObject({
      code: 'ERR_MODEL_NOT_FOUND',
      message: expect.stringContaining('config.json'),
    });
    await expect(ModelConfig.load(join(fixtureModels, 'llama', 'config.json'))).rejects.toMatchObject({
      code: 'ERR_MODEL_FORMAT',
    });
    await expect(ModelConfig.load(new URL('https://example.com/x'))).rejects.toMatchObject({
      code: 'ERR_MODEL_NOT_FOUND',
    });
    await expect(ModelConfig.load(7 as never)).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    await expect(load({ ...llama, architectures: ['Nope'] })).rejects.toMatchObject({
      code: 'ERR_UNKNOWN_ARCHITECTURE',
    });
  });
});

describe('weight files', () => {
  const index = (map: object) => ({ 'model.safetensors.index.json': { weight_map: map } });
  test('single and sharded', async () => {
    const folder = join(fixtureModels, 'llama');
    expect(await findWeightFiles(folder)).toEqual([join(folder, 'model.safetensors')]);
    const sharded = folderOf({
      ...index({ a: 'b.safetensors', c: 'a.safetensors', d: 'a.safetensors' }),
      'a.safetensors': '',
      'b.safetensors': '',
    });
    expect(await findWeightFiles(sharded)).toEqual(['a', 'b'].map((n) => join(sharded, `${n}.safetensors`)));
  });

  test.each<[string, Record<string, unknown>]>([
    ['ERR_CHECKPOINT_MISSING', {}],
    ['ERR_CHECKPOINT_MISSING', { 'pytorch_model.bin': '' }],
    ['ERR_CHECKPOINT_MISSING_SHARD', index({ a: 'a.safetensors' })],
    ['ERR_CHECKPOINT_INDEX', index({ a: '../a.safetensors' })],
    ['ERR_CHECKPOINT_INDEX', index({ a: 3 })],
    ['ERR_CHECKPOINT_INDEX', index({})],
    ['ERR_CHECKPOINT_INDEX', { 'model.safetensors.index.json': {} }],
  ])('%s', async (code, files) => {
    await expect(findWeightFiles(folderOf(files))).rejects.toMatchObject({ code });
  });
});
