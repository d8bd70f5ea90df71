/** config.json of either generation -> one form: defaults filled in, rope_theta and rope_scaling beside each other. */
import { defaultsOf, partsOf, textsOf } from './families';
import {
  boolean,
  checkFields,
  checkPatches,
  checkScaling,
  configError,
  ofLayers,
  positiveInteger,
  positiveNumber,
} from './fields';
import { isObject, type JsonObject } from './json-file';

/** Completes and checks the configuration of a model and of its parts. The result is frozen. */
export function completeConfig(raw: JsonObject): JsonObject {
  const modelType = raw.model_type;
  if (typeof modelType !== 'string' || modelType === '') throw configError('model_type', 'a string', modelType);
  const parts = partsOf(modelType);
  const given = parts.text === undefined ? withoutUndefined(raw) : withoutNull(raw, []);
  const config: JsonObject = { ...defaultsOf(modelType), ...given };
  for (const item of ['image', 'video']) {
    // transformers 5 renamed it.
    const [name, renamed] = [`${item}_token_index`, `${item}_token_id`];
    const [older, newer] = [given[name], given[renamed]];
    if (typeof older === 'number' && typeof newer === 'number' && older !== newer)
      throw configError(name, `the ${newer} of ${renamed}`, older, 'The two contradict each other; keep one.');
    if (older === undefined && newer !== undefined) config[name] = newer;
  }
  const text = completeTextPart(raw);
  if (text) config.text_config = text;
  else Object.assign(config, completeText(raw, ''));
  if (raw.vision_config !== undefined || parts.vision !== undefined) {
    const absent = raw.vision_config === undefined || raw.vision_config === null;
    config.vision_config = completeVision(
      {
        model_type: parts.vision,
        ...(absent ? parts.visionDefaults : {}),
        // Some files repeat the whole model's type inside its part.
        ...without(partOf(raw, 'vision_config'), (name, value) => name === 'model_type' && value === modelType),
      },
      'vision_config.',
      parts.vision !== undefined,
    );
  }
  if (parts.text !== undefined) checkComposite(config, raw);
  return deepFreeze(config);
}

/** The configuration of a multimodal model's language model, as of a model of its own; undefined for a text model. */
export function completeTextPart(raw: JsonObject): JsonObject | undefined {
  const parts = partsOf(raw.model_type as string);
  if (raw.text_config === undefined && parts.text === undefined) return undefined;
  const own = parts.flatText && raw.text_config === undefined ? flatText(raw) : partOf(raw, 'text_config');
  const text = { model_type: parts.text, ...inherited(raw), ...own };
  const known = textsOf(raw.model_type as string);
  if (known && !known.includes(text.model_type as string))
    throw configError('text_config.model_type', `one of ${known.join(', ')}`, text.model_type);
  return deepFreeze(completeText(text, 'text_config.'));
}

/** The part that the language model is built from: text_config, or the configuration itself. */
export function textConfigOf(config: JsonObject): JsonObject {
  return isObject(config.text_config) ? config.text_config : config;
}

function partOf(raw: JsonObject, name: string): JsonObject {
  const part = raw[name];
  if (part === undefined || part === null) return {};
  if (!isObject(part)) throw configError(name, 'an object', part);
  return withoutUndefined(part);
}

function flatText(raw: JsonObject): JsonObject {
  return without(withoutUndefined(raw), (name) => ['model_type', 'architectures', 'vision_config'].includes(name));
}

/** transformers 5 writes these beside text_config only. */
function inherited(raw: JsonObject): JsonObject {
  const fields: JsonObject = {};
  for (const name of ['tie_word_embeddings', 'torch_dtype', 'dtype']) {
    if (raw[name] !== undefined && raw[name] !== null) fields[name] = raw[name];
  }
  return fields;
}

/** Fields whose null says "none"; elsewhere it means absent. */
const nullable = ['sliding_window', 'rope_scaling', 'attn_logit_softcapping', 'final_logit_softcapping'];

function completeText(raw: JsonObject, prefix: string): JsonObject {
  const modelType = raw.model_type;
  if (typeof modelType !== 'string') throw configError(`${prefix}model_type`, 'a string', modelType);
  const defaults = defaultsOf(modelType);
  if (Object.keys(defaults).length === 0) return { ...withoutUndefined(raw), ...completeRope(raw, {}, prefix) };
  const config: JsonObject = { ...defaults, ...withoutNull(raw, nullable) };
  const { num_key_value_heads: _heads, head_dim: _dim, ...fields } = defaults;
  checkFields(config, fields, prefix, nullable);
  const hidden = config.hidden_size as number;
  const heads = config.num_attention_heads as number;
  config.num_key_value_heads ??= heads;
  positiveInteger(config, 'num_key_value_heads', prefix);
  if (heads % (config.num_key_value_heads as number) !== 0) {
    throw configError(
      `${prefix}num_key_value_heads`,
      `a divisor of num_attention_heads ${heads}`,
      config.num_key_value_heads,
    );
  }
  if (config.head_dim === undefined) {
    if (hidden % heads !== 0)
      throw configError(
        `${prefix}num_attention_heads`,
        `a divisor of hidden_size ${hidden}, as head_dim is absent,`,
        heads,
      );
    config.head_dim = hidden / heads;
  }
  positiveInteger(config, 'head_dim', prefix);
  if ((config.head_dim as number) % 2 !== 0)
    throw configError(`${prefix}head_dim`, 'an even number, whose halves turn together,', config.head_dim);
  for (const f of ['attention_bias', 'mlp_bias', 'use_sliding_window']) boolean(config, f, prefix);
  for (const f of ['sliding_window', 'sliding_window_pattern', 'no_rope_layer_interval'])
    if (config[f] !== null && config[f] !== undefined) positiveInteger(config, f, prefix);
  ofLayers(config, 'layer_types', prefix, 'string');
  ofLayers(config, 'no_rope_layers', prefix, 'number');
  return Object.assign(config, completeRope(raw, defaults, prefix));
}

/** Where layers differ (Gemma 3), rope_parameters has an entry for each kind; local ones need no more than their theta. */
function ropeParameters({ rope_parameters: given }: JsonObject): unknown {
  if (!isObject(given) || !isObject(given.full_attention)) return given;
  const local = given.sliding_attention;
  const theta = isObject(local) ? local.rope_theta : undefined;
  return { ...given.full_attention, ...(theta === undefined ? {} : { rope_local_base_freq: theta }) };
}

/** rope_theta and rope_scaling, or both in rope_parameters (transformers 5). Given twice they must agree. */
function completeRope(raw: JsonObject, defaults: JsonObject, prefix: string): JsonObject {
  const parameters = ropeParameters(raw);
  if (parameters !== undefined && parameters !== null && !isObject(parameters)) {
    throw configError(`${prefix}rope_parameters`, 'an object', parameters);
  }
  const inside = isObject(parameters) ? parameters.rope_theta : undefined;
  const outside = raw.rope_theta ?? undefined;
  if (inside !== undefined && outside !== undefined && inside !== outside) {
    throw configError(
      `${prefix}rope_theta`,
      `the ${String(inside)} of rope_parameters.rope_theta`,
      outside,
      'The two contradict each other; keep one.',
    );
  }
  const theta = inside ?? outside ?? defaults.rope_theta;
  const config: JsonObject = {};
  if (theta !== undefined) {
    config.rope_theta = theta;
    positiveNumber(config, 'rope_theta', prefix);
  }
  let scaling = raw.rope_scaling ?? undefined;
  if (scaling !== undefined && !isObject(scaling)) throw configError(`${prefix}rope_scaling`, 'an object', scaling);
  if (isObject(parameters)) {
    const { rope_theta: _theta, partial_rotary_factor: partial, rope_local_base_freq: local, ...rest } = parameters;
    if (local !== undefined && local !== null) config.rope_local_base_freq = local;
    if (partial !== undefined && partial !== null) config.partial_rotary_factor = partial;
    if (typeof rest.rope_type === 'string' && rest.rope_type !== 'default') {
      const given = isObject(scaling) ? (scaling.rope_type ?? scaling.type) : undefined;
      if (given !== undefined && given !== rest.rope_type) {
        throw configError(
          `${prefix}rope_scaling.rope_type`,
          `the '${rest.rope_type}' of rope_parameters.rope_type`,
          given,
        );
      }
      scaling = rest;
    } else if (rest.mrope_section !== undefined) scaling ??= rest;
  }
  if (isObject(scaling))
    checkScaling(scaling, `${prefix}${scaling === raw.rope_scaling ? 'rope_scaling' : 'rope_parameters'}`);
  config.rope_scaling = isObject(scaling)
    ? completeScaling(scaling, raw, raw.max_position_embeddings ?? defaults.max_position_embeddings)
    : null;
  for (const f of ['rope_local_base_freq', 'partial_rotary_factor']) {
    config[f] ??= raw[f] ?? defaults[f];
    if (config[f] !== undefined) positiveNumber(config, f, prefix);
    else delete config[f];
  }
  return config;
}

/** The lengths that a scaling stretches from and to; older files keep them beside it, and spell longrope su. */
function completeScaling(scaling: JsonObject, raw: JsonObject, longest: unknown): JsonObject {
  const type = scaling.rope_type ?? scaling.type;
  if (type !== 'yarn' && type !== 'longrope' && type !== 'su') return scaling;
  const original = raw.original_max_position_embeddings ?? longest;
  return {
    ...(original === undefined ? {} : { original_max_position_embeddings: original }),
    ...(longest === undefined ? {} : { max_position_embeddings: longest }),
    ...scaling,
    rope_type: type === 'su' ? 'longrope' : type,
  };
}

function completeVision(raw: JsonObject, prefix: string, known: boolean): JsonObject {
  const modelType = raw.model_type;
  if (typeof modelType !== 'string') throw configError(`${prefix}model_type`, 'a string', modelType);
  const defaults = defaultsOf(modelType);
  if (known && defaults.patch_size === undefined)
    throw configError(`${prefix}model_type`, 'the type of a tower that is known here', modelType);
  const config: JsonObject = { ...defaults, ...withoutNull(raw, []) };
  for (const f of ['image_size', 'patch_size']) config[f] = sideOf(config[f]);
  if (isObject(raw.rope_parameters)) config.rope_theta = raw.rope_parameters.rope_theta ?? config.rope_theta;
  checkFields(config, defaults, prefix);
  const channels = defaults.in_channels === undefined ? 'num_channels' : 'in_channels';
  if (known && config[channels] !== 3) throw configError(`${prefix}${channels}`, 'the 3 of RGB', config[channels]);
  const heads = config.num_attention_heads === undefined ? 'num_heads' : 'num_attention_heads';
  // Qwen2-VL's hidden_size is what its tower leads to.
  const width = config.embed_dim === undefined ? 'hidden_size' : 'embed_dim';
  if (typeof config[width] === 'number' && typeof config[heads] === 'number' && config[width] % config[heads] !== 0)
    throw configError(`${prefix}${heads}`, `a divisor of ${width} ${config[width]}`, config[heads]);
  // Rows and columns turn a pair of numbers each.
  const turned = heads === 'num_heads' || defaults.rope_theta !== undefined;
  if (turned && ((config[width] as number) / (config[heads] as number)) % 4 !== 0)
    throw configError(
      `${prefix}${heads}`,
      `heads of a multiple of 4 numbers in ${width} ${String(config[width])}`,
      config[heads],
    );
  checkPatches(config, prefix);
  return config;
}

/** Some files give a square by both its sides. */
function sideOf(size: unknown): unknown {
  return Array.isArray(size) && size.length === 2 && size[0] === size[1] ? size[0] : size;
}

/** What preprocessor_config.json says of pictures against what the tower is made for. */
export function checkProcessor(config: JsonObject, processor: JsonObject | undefined): void {
  const vision = config.vision_config;
  if (!isObject(vision) || processor === undefined || partsOf(config.model_type as string).text === undefined) return;
  const side = ['crop_size', 'size'].map((name) => sideIn(processor[name])).find((n) => n !== undefined);
  const tile = isObject(processor.max_image_size) ? processor.max_image_size.longest_edge : undefined;
  const pairs: [string, unknown][] = [['image_size', tile ?? side]];
  // Qwen's; other processors count patches in other ways.
  if (processor.merge_size !== undefined)
    pairs.push(
      ['patch_size', processor.patch_size],
      ['spatial_merge_size', processor.merge_size],
      ['temporal_patch_size', processor.temporal_patch_size],
    );
  const [grids, theirGrids] = [config, processor].map((c) => JSON.stringify(c.image_grid_pinpoints));
  if (grids !== undefined && theirGrids !== undefined && grids !== theirGrids)
    throw configError('image_grid_pinpoints', 'those of preprocessor_config.json', config.image_grid_pinpoints);
  const ofPixtral = /^Pixtral/.test(String(processor.image_processor_type));
  if (ofPixtral && vision.model_type !== 'pixtral')
    throw configError('vision_config.model_type', "'pixtral', as preprocessor_config.json has it,", vision.model_type);
  for (const [field, theirs] of pairs) {
    const ours = vision[field];
    if (typeof ours !== 'number' || typeof theirs !== 'number' || ours === theirs) continue;
    throw configError(`vision_config.${field}`, `the ${theirs} of preprocessor_config.json`, ours);
  }
}

/** Of a square, however it is written; undefined of anything else. */
function sideIn(size: unknown): unknown {
  if (typeof size === 'number') return size;
  if (!isObject(size)) return undefined;
  return size.height === size.width ? size.height : undefined;
}

function checkComposite(config: JsonObject, raw: JsonObject): void {
  const text_config = config.text_config as JsonObject;
  const vision = isObject(config.vision_config) ? config.vision_config : {};
  const output = vision.embed_dim === undefined ? 'out_hidden_size' : 'hidden_size';
  const hidden = text_config.hidden_size;
  if (typeof vision[output] === 'number' && typeof hidden === 'number' && vision[output] !== hidden)
    throw configError(`vision_config.${output}`, `the ${hidden} of text_config.hidden_size`, vision[output]);
  // These two are lists of other things, and negative.
  const {
    image_grid_pinpoints: _grids,
    vision_feature_layer: _layer,
    ...fields
  } = defaultsOf(raw.model_type as string);
  const spelled = { ...config };
  const vocab = text_config.vocab_size;
  for (const [name, fallback] of Object.entries(fields)) {
    if (!name.endsWith('_token_index')) continue;
    // As the file spells it.
    const renamed = name.replace('_index', '_id');
    const written = raw[name] === undefined && raw[renamed] !== undefined ? renamed : name;
    spelled[written] = config[name];
    delete fields[name];
    fields[written] = fallback;
    const token = config[name];
    // A family's own token for videos may be one that this checkpoint does without.
    if (name === 'video_token_index' && (raw[name] ?? raw[renamed]) === undefined) continue;
    if (typeof token === 'number' && typeof vocab === 'number' && token >= vocab && token <= 1e9)
      throw configError(written, `a token id below text_config.vocab_size ${vocab}`, token);
  }
  checkFields(spelled, fields, '');
  if (config.spatial_merge_size !== undefined) positiveInteger(config, 'spatial_merge_size', '');
  const strategy = config.vision_feature_select_strategy;
  if (strategy !== undefined && strategy !== 'default' && strategy !== 'full') {
    throw configError('vision_feature_select_strategy', "'default' or 'full'", strategy);
  }
  const layer = config.vision_feature_layer;
  const layers: unknown[] = Array.isArray(layer) ? layer : [layer];
  if (layer !== undefined && (layers.length === 0 || !layers.every(Number.isSafeInteger))) {
    throw configError('vision_feature_layer', 'an integer or a list of integers', layer);
  }
}

function without(raw: JsonObject, drop: (name: string, value: unknown) => boolean): JsonObject {
  return Object.fromEntries(Object.entries(raw).filter(([name, value]) => !drop(name, value)));
}

function withoutUndefined(raw: JsonObject): JsonObject {
  return without(raw, (name, value) => value === undefined || name === '__proto__');
}

/** null means absent, but for fields where it says "none". */
function withoutNull(raw: JsonObject, nullable: readonly string[]): JsonObject {
  return without(withoutUndefined(raw), (name, value) => value === null && !nullable.includes(name));
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
