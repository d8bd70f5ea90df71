/** docs/models.md: which models there are, computed where it can be. `npm run models-page` writes it; test/docs/models.test.ts compares. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { completeConfig } from '../../dist/config/hf-config';
import type { RegistryModelConfig } from '../../dist/config/model-class';
import { INPUT_REGISTRY, MULTIMODAL_REGISTRY, type RawImage } from '../../dist/index';
import { resolveModelClass } from '../../dist/models/registry';
import { bounds } from '../goldens/quantized';
import { root } from '../models/fixtures';

interface Family {
  name: string;
  architectures: string[];
  golden: string[];
  hub: string[];
  /** Of a published checkpoint: what its config.json and preprocessor_config.json say about pictures. */
  pictures?: { config: Record<string, unknown>; preprocessor: Record<string, unknown>; sizes: string };
}

const clip = { hidden_size: 1024, num_attention_heads: 16, image_size: 336, patch_size: 14 };
const siglip = (size: number) => ({
  model_type: 'siglip_vision_model',
  hidden_size: 1152,
  intermediate_size: 4304,
  num_hidden_layers: 27,
  num_attention_heads: 16,
  image_size: size,
  patch_size: 14,
});
const square = (side: number) => ({ height: side, width: side });
const sixths = [1, 2, 3, 4, 5, 6];
const qwenPixels = { image_processor_type: 'Qwen2VLImageProcessor', min_pixels: 3136, max_pixels: 12845056 };

export const families: readonly Family[] = [
  {
    name: 'Llama, SmolLM2, TinyLlama, Vicuna',
    architectures: ['LlamaForCausalLM', 'LlamaModel'],
    golden: ['llama', 'llama3-rope', 'smollm2'],
    hub: ['HuggingFaceTB/SmolLM2-135M-Instruct', 'meta-llama/Llama-3.2-1B-Instruct'],
  },
  { name: 'Mistral', architectures: ['MistralForCausalLM', 'MistralModel'], golden: ['mistral'], hub: ['mistralai/Mistral-7B-Instruct-v0.3'] },
  { name: 'Qwen2, Qwen2.5', architectures: ['Qwen2ForCausalLM', 'Qwen2Model'], golden: ['qwen2'], hub: ['Qwen/Qwen2.5-0.5B-Instruct'] },
  {
    name: 'Qwen3',
    architectures: ['Qwen3ForCausalLM', 'Qwen3Model'],
    golden: ['qwen3'],
    hub: ['Qwen/Qwen3-0.6B', 'Qwen/Qwen3-Embedding-0.6B'],
  },
  {
    name: 'Phi-3, Phi-3.5, Phi-4-mini',
    architectures: ['Phi3ForCausalLM'],
    golden: ['phi3'],
    hub: ['microsoft/Phi-3-mini-4k-instruct', 'microsoft/Phi-3.5-mini-instruct'],
  },
  {
    name: 'Gemma, Gemma 2, Gemma 3 (text)',
    architectures: [
      'GemmaForCausalLM',
      'Gemma2ForCausalLM',
      'Gemma3ForCausalLM',
      'GemmaModel',
      'Gemma2Model',
      'Gemma3TextModel',
    ],
    golden: ['gemma2'],
    hub: ['google/gemma-2-2b-it', 'google/gemma-3-1b-it'],
  },
  { name: 'SmolLM3', architectures: ['SmolLM3ForCausalLM'], golden: [], hub: ['HuggingFaceTB/SmolLM3-3B'] },
  {
    name: 'LLaVA-1.5',
    architectures: ['LlavaForConditionalGeneration'],
    golden: ['llava-1.5', 'llava-1.5-full', 'llava-siglip'],
    hub: ['llava-hf/llava-1.5-7b-hf'],
    pictures: {
      config: { model_type: 'llava', vision_config: clip },
      preprocessor: { image_processor_type: 'CLIPImageProcessor', size: { shortest_edge: 336 }, crop_size: square(336) },
      sizes: 'cropped to 336 x 336',
    },
  },
  {
    name: 'LLaVA-NeXT',
    architectures: ['LlavaNextForConditionalGeneration'],
    golden: ['llava-next-llama', 'llava-next-mistral'],
    hub: ['llava-hf/llava-v1.6-mistral-7b-hf', 'llava-hf/llava-v1.6-vicuna-7b-hf'],
    pictures: {
      config: { model_type: 'llava_next', vision_config: clip },
      preprocessor: { image_processor_type: 'LlavaNextImageProcessor', size: { shortest_edge: 336 }, crop_size: square(336) },
      sizes: 'tiles of 336, five grids',
    },
  },
  {
    name: 'LLaVA-OneVision',
    architectures: ['LlavaOnevisionForConditionalGeneration'],
    golden: ['llava_onevision'],
    hub: ['llava-hf/llava-onevision-qwen2-0.5b-ov-hf', 'llava-hf/llava-onevision-qwen2-7b-ov-hf'],
    pictures: {
      config: {
        model_type: 'llava_onevision',
        vision_config: siglip(384),
        image_grid_pinpoints: sixths.flatMap((rows) => sixths.map((cols) => [384 * rows, 384 * cols])),
        vision_aspect_ratio: 'anyres_max_9',
      },
      preprocessor: { image_processor_type: 'LlavaOnevisionImageProcessor', size: square(384) },
      sizes: 'tiles of 384, up to 6 x 6; several in one prompt: one each',
    },
  },
  {
    name: 'Qwen2-VL',
    architectures: ['Qwen2VLForConditionalGeneration'],
    golden: ['qwen2_vl'],
    hub: ['Qwen/Qwen2-VL-2B-Instruct'],
    pictures: { config: { model_type: 'qwen2_vl' }, preprocessor: qwenPixels, sizes: 'any, in steps of 28' },
  },
  {
    name: 'Qwen2.5-VL',
    architectures: ['Qwen2_5_VLForConditionalGeneration'],
    golden: ['qwen2_5_vl'],
    hub: ['Qwen/Qwen2.5-VL-3B-Instruct'],
    pictures: { config: { model_type: 'qwen2_5_vl' }, preprocessor: qwenPixels, sizes: 'any, in steps of 28' },
  },
  {
    name: 'Qwen3-VL',
    architectures: ['Qwen3VLForConditionalGeneration'],
    golden: ['qwen3_vl'],
    hub: ['Qwen/Qwen3-VL-2B-Instruct'],
    pictures: {
      config: { model_type: 'qwen3_vl' },
      preprocessor: {
        image_processor_type: 'Qwen2VLImageProcessorFast',
        patch_size: 16,
        size: { shortest_edge: 65536, longest_edge: 16777216 },
      },
      sizes: 'any, in steps of 32',
    },
  },
  {
    name: 'SmolVLM, SmolVLM2',
    architectures: ['SmolVLMForConditionalGeneration'],
    golden: ['smolvlm'],
    hub: ['HuggingFaceTB/SmolVLM2-256M-Video-Instruct', 'HuggingFaceTB/SmolVLM2-500M-Video-Instruct'],
    pictures: {
      config: {
        model_type: 'smolvlm',
        scale_factor: 4,
        vision_config: { hidden_size: 768, num_attention_heads: 12, image_size: 512, patch_size: 16 },
      },
      preprocessor: {
        image_processor_type: 'SmolVLMImageProcessor',
        size: { longest_edge: 2048 },
        max_image_size: { longest_edge: 512 },
      },
      sizes: 'tiles of 512, the longest side 2048',
    },
  },
  {
    name: 'Idefics3, SmolVLM 1',
    architectures: ['Idefics3ForConditionalGeneration'],
    golden: ['idefics3'],
    hub: ['HuggingFaceTB/SmolVLM-256M-Instruct', 'HuggingFaceM4/Idefics3-8B-Llama3'],
    pictures: {
      config: {
        model_type: 'idefics3',
        scale_factor: 2,
        vision_config: { image_size: 364, patch_size: 14 },
        image_token_id: 31000,
      },
      preprocessor: { image_processor_type: 'Idefics3ImageProcessor' },
      sizes: 'tiles of 364, the longest side 1456',
    },
  },
  {
    name: 'InternVL 2.5 to 3.5',
    architectures: ['InternVLForConditionalGeneration'],
    golden: ['internvl'],
    hub: ['OpenGVLab/InternVL3-1B-hf', 'OpenGVLab/InternVL3_5-1B-HF'],
    pictures: {
      config: { model_type: 'internvl' },
      preprocessor: {
        image_processor_type: 'GotOcr2ImageProcessorFast',
        processor_class: 'InternVLProcessor',
        size: square(448),
        min_patches: 1,
        max_patches: 12,
      },
      sizes: 'tiles of 448, 1 to 12 and a thumbnail',
    },
  },
  {
    name: 'Gemma 3',
    architectures: ['Gemma3ForConditionalGeneration'],
    golden: ['gemma3'],
    hub: ['google/gemma-3-4b-it'],
    pictures: {
      config: { model_type: 'gemma3', vision_config: siglip(896) },
      preprocessor: { image_processor_type: 'Gemma3ImageProcessor', size: square(896) },
      sizes: 'squashed to 896 x 896; crops with doPanAndScan',
    },
  },
  {
    name: 'PaliGemma, PaliGemma 2',
    architectures: ['PaliGemmaForConditionalGeneration'],
    golden: ['paligemma'],
    hub: ['google/paligemma-3b-mix-224', 'google/paligemma2-3b-mix-448'],
    pictures: {
      config: { model_type: 'paligemma', vision_config: siglip(224) },
      preprocessor: { image_processor_type: 'SiglipImageProcessor', size: square(224) },
      sizes: 'squashed to 224 x 224 (448, 896)',
    },
  },
  {
    name: 'Pixtral',
    architectures: ['LlavaForConditionalGeneration'],
    golden: ['pixtral'],
    hub: ['mistral-community/pixtral-12b'],
    pictures: {
      config: { model_type: 'llava', text_config: { model_type: 'mistral' }, vision_config: { model_type: 'pixtral' } },
      preprocessor: { image_processor_type: 'PixtralImageProcessor' },
      sizes: 'any up to 1024 a side, in steps of 16',
    },
  },
  {
    name: 'Mistral Small 3.1, 3.2',
    architectures: ['Mistral3ForConditionalGeneration'],
    golden: ['mistral3'],
    hub: ['mistralai/Mistral-Small-3.1-24B-Instruct-2503'],
    pictures: {
      config: { model_type: 'mistral3', vision_config: { model_type: 'pixtral', image_size: 1540, patch_size: 14 } },
      preprocessor: { image_processor_type: 'PixtralImageProcessor', size: { longest_edge: 1540 }, patch_size: square(28) },
      sizes: 'any up to 1540 a side, in steps of 28',
    },
  },
];

/** Rows of a picture of 1024 x 768, and of the most expensive one. */
async function tokensOf({ architectures, pictures }: Family): Promise<[number, number]> {
  const { config, preprocessor } = pictures!;
  const { modelClass } = await resolveModelClass(architectures, config);
  const qwen = /^qwen/.test(String(config.model_type));
  // A vocabulary that has the families' placeholders, and the width that Qwen's tower leads to.
  const text = { vocab_size: 300000, ...(qwen ? { hidden_size: 3584 } : {}), ...(config.text_config as object | undefined) };
  const flat = /^qwen2/.test(String(config.model_type));
  const hfConfig = completeConfig({ ...config, ...(flat ? text : { text_config: text }) });
  const modelConfig: RegistryModelConfig = {
    model: String(config.model_type),
    modelClass,
    hfConfig,
    preprocessorConfig: preprocessor,
    multimodalConfig: { limitPerPrompt: { video: 0 }, mmProcessorKwargs: {} },
  };
  MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(modelConfig);
  const row = hfConfig.image_token_index as number;
  const placeholder = (hfConfig.boi_token_index as number | undefined) ?? row;
  const image: RawImage = { width: 1024, height: 768, channels: 3, data: new Uint8Array(1024 * 768 * 3) };
  const { promptTokenIds, segments } = await INPUT_REGISTRY.processInput(modelConfig, {
    promptTokenIds: [placeholder],
    multiModalData: { image: [image] },
  });
  const ids = segments?.flatMap((s) => ('text' in s ? [] : s.ids)) ?? promptTokenIds;
  return [ids.filter((id) => id === row).length, MULTIMODAL_REGISTRY.getMaxMultimodalTokens(modelConfig)];
}

/** Formats in which its golden checkpoint is held to float32's answers. */
const quantised = ({ golden }: Family): string =>
  [...new Set(golden.flatMap((folder) => Object.keys(bounds[folder] ?? {}).filter((f) => f.startsWith('int'))))].join(', ') || '-';

export async function modelsPage(): Promise<string> {
  const code = (names: readonly string[]): string => names.map((n) => `\`${n}\``).join(', ') || '-';
  const text = families.filter((f) => !f.pictures);
  const vision = families.filter((f) => f.pictures);
  const rows: string[] = [];
  for (const f of vision) {
    const [one, most] = await tokensOf(f);
    rows.push(`| ${f.name} | ${code(f.architectures)} | ${f.pictures!.sizes} | ${one} | ${most} | ${quantised(f)} | ${code(f.golden)} | ${code(f.hub)} |`);
  }
  return `# Models

This page is written by \`npm run models-page\` from the registry and from what published checkpoints say about pictures.

A family's golden test compares a small random checkpoint of its form, stage by stage, with what transformers makes of the
same inputs in float32: every hidden state, picture features, logits, greedy tokens. **The checkpoints of the last column
were not run here**: they are of the form that is tested, and should work; sizes and licences are their authors' matter.
Checkpoints load in both generations of names and configurations, as safetensors; what loads as GGUF stands in
[gguf.md](gguf.md), weights of eight and four bits in [quantization.md](quantization.md).

## Text and pictures

Tokens are those of features, for one picture of 1024 x 768 and for the most expensive picture, which memory is planned for;
\`mmProcessorKwargs\` (\`minPixels\`, \`maxPixels\`, \`doImageSplitting\`, \`maxPatches\`, \`doPanAndScan\` ...) changes both.
Qwen-VL and LLaVA-OneVision take videos as frames, too ([pictures.md](pictures.md)).

| Family | Architectures | Pictures | Tokens | At most | Quantised | Golden test | Not run here |
|-|-|-|-|-|-|-|-|
${rows.join('\n')}

For text alone a checkpoint of this table can be loaded without its tower: with \`limitMmPerPrompt\` of 0 for each modality its
class leaves it out, and a class of the next table, named by the option \`architecture\`, takes the language model alone, also
of a multimodal checkpoint that is not here. Both give the bits of the whole model.

## Text

| Family | Architectures | Quantised | Golden test | Not run here |
|-|-|-|-|-|
${text.map((f) => `| ${f.name} | ${code(f.architectures)} | ${quantised(f)} | ${code(f.golden)} | ${code(f.hub)} |`).join('\n')}

Rope scalings: linear, dynamic (up to the model's own length), Llama 3, YaRN, LongRoPE (a prompt's length chooses its
factors, and its answer keeps them), M-RoPE. A model that is not here is added as [add-a-model.md](add-a-model.md) says.
`;
}

if (require.main === module) {
  void modelsPage().then((page) => writeFileSync(join(root, 'docs', 'models.md'), page));
}
