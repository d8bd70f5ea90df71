/** The second file of a LLaVA model, "mmproj": CLIP's vision tower and the projector; LLaVA-NeXT's has a row that ends each line, and grids. */
import type { JsonObject } from '../config/json-file';
import type { GgufFile } from './file';

/** Width of the text model that a projector leads to; undefined for a file without one. */
export function projectionWidth(vision: GgufFile): number | undefined {
  return vision.tensors.get('mm.2.weight')?.shape[0];
}

export function llavaConfig(text: JsonObject, vision: GgufFile, imageTokenId: number): JsonObject {
  const { architectures: _text, ...text_config } = text;
  const grids = pinpoints(vision);
  return {
    architectures: [grids ? 'LlavaNextForConditionalGeneration' : 'LlavaForConditionalGeneration'],
    ...(grids ? { model_type: 'llava_next', image_grid_pinpoints: grids } : { model_type: 'llava' }),
    image_token_index: imageTokenId,
    text_config,
    vision_config: visionConfig(vision),
    projector_hidden_act: 'gelu',
    vision_feature_layer: featureLayer(vision),
    vision_feature_select_strategy: 'default',
    multimodal_projector_bias: vision.tensors.has('mm.0.bias'),
    tie_word_embeddings: text.tie_word_embeddings,
    torch_dtype: text.torch_dtype,
    bos_token_id: text.bos_token_id,
    eos_token_id: text.eos_token_id,
  };
}

function visionConfig(vision: GgufFile): JsonObject {
  const projector = vision.string('clip.projector_type') ?? vision.string('clip.vision.projector_type') ?? 'mlp';
  if (projector !== 'mlp')
    throw vision.error(
      'clip.projector_type',
      "'mlp'",
      `'${projector}'`,
      'Load the safetensors checkpoint of this model.',
    );
  if (!vision.tensors.has('v.class_embd'))
    throw vision.error(
      'the tensors',
      "LLaVA-1.5's or LLaVA-NeXT's",
      "another model's",
      'Load the safetensors checkpoint of this model.',
    );
  const required = (key: string): number => vision.required(`clip.vision.${key}`, vision.number);
  return {
    model_type: 'clip_vision_model',
    hidden_size: required('embedding_length'),
    intermediate_size: required('feed_forward_length'),
    num_hidden_layers: required('block_count'),
    num_attention_heads: required('attention.head_count'),
    image_size: required('image_size'),
    patch_size: required('patch_size'),
    layer_norm_eps: required('attention.layer_norm_epsilon'),
    hidden_act: vision.boolean('clip.use_gelu') === true ? 'gelu' : 'quick_gelu',
  };
}

/** [height, width] of LLaVA-NeXT's grids, which the file has in one row; undefined of LLaVA-1.5. */
function pinpoints(vision: GgufFile): [number, number][] | undefined {
  const key = 'clip.vision.image_grid_pinpoints';
  if (!vision.tensors.has(newline)) return undefined;
  const merge = vision.string('clip.vision.mm_patch_merge_type') ?? 'spatial_unpad';
  if (merge !== 'spatial_unpad')
    throw vision.error(
      'clip.vision.mm_patch_merge_type',
      "'spatial_unpad'",
      `'${merge}'`,
      'Load the safetensors checkpoint of this model.',
    );
  const sides = vision.required(key, vision.numbers);
  if (sides.length === 0 || sides.length % 2 !== 0)
    throw vision.error(key, 'pairs of sides', `${sides.length} numbers`);
  return Array.from({ length: sides.length / 2 }, (_, i) => [sides[2 * i]!, sides[2 * i + 1]!]);
}

/**
 * LLaVA takes the features before the last block. Converters leave that block and the norm behind it out; a file with the norm has
 * the whole tower.
 */
function featureLayer(vision: GgufFile): number | number[] {
  const layers = vision.numbers('clip.vision.feature_layer');
  if (layers) return layers.length === 1 ? layers[0]! : layers;
  return vision.tensors.has('v.post_ln.weight') ? -2 : -1;
}

export function preprocessorConfig(vision: GgufFile): JsonObject {
  const side = vision.required('clip.vision.image_size', vision.number);
  const grids = pinpoints(vision);
  return {
    image_processor_type: grids ? 'LlavaNextImageProcessor' : 'CLIPImageProcessor',
    ...(grids ? { image_grid_pinpoints: grids, do_pad: true } : {}),
    do_center_crop: true,
    size: { shortest_edge: side },
    crop_size: { height: side, width: side },
    image_mean: mean(vision, 'clip.vision.image_mean'),
    image_std: mean(vision, 'clip.vision.image_std'),
  };
}

/** The file has float32; the shortest number that rounds to it is what the converter was given. */
function mean(vision: GgufFile, key: string): number[] {
  return vision.required(key, vision.numbers).map((value) => {
    for (let digits = 1; digits < 17; digits++) {
      const short = Number(value.toPrecision(digits));
      if (Math.fround(short) === value) return short;
    }
    return value;
  });
}

const tower = 'vision_tower.vision_model.';
const newline = 'model.image_newline';
const whole: Readonly<Record<string, string>> = {
  [newline]: 'image_newline',
  'v.class_embd': `${tower}embeddings.class_embedding`,
  'v.patch_embd.weight': `${tower}embeddings.patch_embedding.weight`,
  'v.position_embd.weight': `${tower}embeddings.position_embedding.weight`,
  'v.pre_ln.weight': `${tower}pre_layrnorm.weight`,
  'v.pre_ln.bias': `${tower}pre_layrnorm.bias`,
  'v.post_ln.weight': `${tower}post_layernorm.weight`,
  'v.post_ln.bias': `${tower}post_layernorm.bias`,
  'mm.0.weight': 'multi_modal_projector.linear_1.weight',
  'mm.0.bias': 'multi_modal_projector.linear_1.bias',
  'mm.2.weight': 'multi_modal_projector.linear_2.weight',
  'mm.2.bias': 'multi_modal_projector.linear_2.bias',
};

const inBlock: Readonly<Record<string, string>> = {
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_out: 'self_attn.out_proj',
  ln1: 'layer_norm1',
  ln2: 'layer_norm2',
  ffn_up: 'mlp.fc1',
  ffn_down: 'mlp.fc2',
};

/** Folder's name -> file's name. */
export function visionPlaces(vision: GgufFile): Map<string, string> {
  // Files of 2023 and 2024 call the first layer of the MLP ffn_down.
  const width = vision.number('clip.vision.embedding_length');
  const inner = vision.number('clip.vision.feed_forward_length');
  const first = vision.tensors.get('v.blk.0.ffn_down.weight');
  const swapped = first?.shape[1] === width && first?.shape[0] === inner && width !== inner;
  const blocks = swapped ? { ...inBlock, ffn_up: 'mlp.fc2', ffn_down: 'mlp.fc1' } : inBlock;
  const names = new Map<string, string>();
  for (const name of vision.tensors.keys()) {
    const [, block, part = '', kind] = /^v\.blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name) ?? [];
    if (block === undefined) {
      if (whole[name] !== undefined) names.set(whole[name], name);
    } else if (blocks[part] !== undefined) {
      names.set(`${tower}encoder.layers.${block}.${blocks[part]}.${kind}`, name);
    }
  }
  return names;
}
