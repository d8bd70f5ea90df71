/** A checkpoint folder as GGUF files, as llama.cpp's converters write them: names, reordered rows, the vocabulary as metadata. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeGguf, type Entry, type TensorSpec, type TensorType } from './writer';

type Json = Record<string, any>; // eslint-disable-line @typescript-eslint/no-explicit-any -- files of many shapes

interface Stored {
  dtype: 'F32' | 'BF16' | 'F16';
  shape: number[];
  bytes: Buffer;
}

const json = (folder: string, name: string): Json | undefined =>
  existsSync(join(folder, name)) ? (JSON.parse(readFileSync(join(folder, name), 'utf8')) as Json) : undefined;

function readSafetensors(file: string): Map<string, Stored> {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<
    string,
    { dtype: Stored['dtype']; shape: number[]; data_offsets: [number, number] }
  >;
  return new Map(
    Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(
        ([
          name,
          {
            dtype,
            shape,
            data_offsets: [begin, end],
          },
        ]) => [name, { dtype, shape, bytes: bytes.subarray(8 + length + begin, 8 + length + end) }],
      ),
  );
}

/** All shards of a folder. */
function readCheckpoint(folder: string): Map<string, Stored> {
  const files = readdirSync(folder).filter((name) => /^model.*\.safetensors$/.test(name));
  return new Map(files.flatMap((name) => [...readSafetensors(join(folder, name))]));
}

/** Rows of each head: the two halves of a rope become neighbours. */
function pairRows({ dtype, shape, bytes }: Stored, heads: number): Stored {
  const row = bytes.length / shape[0]!;
  const head = shape[0]! / heads;
  const out = Buffer.alloc(bytes.length);
  for (let h = 0; h < heads; h++) {
    for (let pair = 0; pair < head / 2; pair++) {
      for (const half of [0, 1]) {
        const from = (h * head + half * (head / 2) + pair) * row;
        bytes.copy(out, (h * head + 2 * pair + half) * row, from, from + row);
      }
    }
  }
  return { dtype, shape, bytes: out };
}

const types: Record<Stored['dtype'], TensorType> = { F32: 'f32', BF16: 'bf16', F16: 'f16' };

function spec(name: string, { dtype, shape, bytes }: Stored): TensorSpec {
  return { name, shape, type: types[dtype], data: bytes };
}

/** tokenizer.json -> tokenizer.ggml.*. */
export function tokenizerEntries(folder: string, pre = 'default'): Entry[] {
  const file = json(folder, 'tokenizer.json')!;
  const config = { ...json(folder, 'special_tokens_map.json'), ...json(folder, 'tokenizer_config.json') } as Json;
  const added = file.added_tokens as { id: number; content: string; special: boolean }[];
  const vocab = Object.entries(file.model.vocab as Record<string, number>);
  const size = 1 + [...vocab.map(([, id]) => id), ...added.map((t) => t.id)].reduce((a, b) => Math.max(a, b), -1);
  const tokens = Array.from({ length: size }, (_, i) => `[PAD${i}]`);
  const kinds = new Array<number>(size).fill(5);
  for (const [token, id] of vocab) {
    tokens[id] = token;
    kinds[id] = /^<0x[0-9A-F]{2}>$/.test(token) ? 6 : 1;
  }
  for (const { id, content, special } of added) {
    tokens[id] = content;
    kinds[id] = content === file.model.unk_token ? 2 : special ? 3 : 4;
  }
  const merges = (file.model.merges as (string | [string, string])[]).map((m) =>
    typeof m === 'string' ? (m.split(' ') as [string, string]) : m,
  );
  const pieces = file.model.byte_fallback === true;
  // A piece's score falls with the rank of the first merge that makes it.
  const ranks = new Map<string, number>();
  merges.forEach(([left, right], rank) => {
    if (!ranks.has(left + right)) ranks.set(left + right, rank);
  });
  const idOf = (name: string): number | undefined => {
    const content = (typeof config[name] === 'string' ? config[name] : config[name]?.content) as string | undefined;
    const at = content === undefined ? -1 : tokens.indexOf(content);
    return at < 0 ? undefined : at;
  };
  const ids = { bos: 'bos_token', eos: 'eos_token', unknown: 'unk_token', padding: 'pad_token' };
  const template = (config.chat_template ?? json(folder, 'chat_template.json')?.chat_template) as unknown;
  const jinja = join(folder, 'chat_template.jinja');
  const chat = existsSync(jinja) ? readFileSync(jinja, 'utf8') : template;
  return [
    ['tokenizer.ggml.model', 'str', pieces ? 'llama' : 'gpt2'],
    ['tokenizer.ggml.pre', 'str', pre],
    ['tokenizer.ggml.tokens', 'str', tokens],
    ['tokenizer.ggml.token_type', 'i32', kinds],
    ...(pieces
      ? ([['tokenizer.ggml.scores', 'f32', tokens.map((t) => -(ranks.get(t) ?? 1e6))]] as Entry[])
      : ([['tokenizer.ggml.merges', 'str', merges.map((m) => m.join(' '))]] as Entry[])),
    ...Object.entries(ids).flatMap(([key, name]): Entry[] => {
      const id = idOf(name);
      return id === undefined ? [] : [[`tokenizer.ggml.${key}_token_id`, 'u32', id]];
    }),
    ['tokenizer.ggml.add_bos_token', 'bool', JSON.stringify(file.post_processor ?? '').includes('SpecialToken')],
    [
      'tokenizer.ggml.add_space_prefix',
      'bool',
      /Prepend|Metaspace/.test(JSON.stringify([file.normalizer, file.pre_tokenizer])),
    ],
    ...(typeof chat === 'string' ? ([['tokenizer.chat_template', 'str', chat]] as Entry[]) : []),
  ];
}

const textNames: [RegExp, string][] = [
  [/^model\.embed_tokens\./, 'token_embd.'],
  [/^model\.norm\./, 'output_norm.'],
  [/^lm_head\./, 'output.'],
  [/^model\.layers\.(\d+)\.input_layernorm\./, 'blk.$1.attn_norm.'],
  [/^model\.layers\.(\d+)\.pre_feedforward_layernorm\./, 'blk.$1.ffn_norm.'],
  [/^model\.layers\.(\d+)\.post_feedforward_layernorm\./, 'blk.$1.post_ffw_norm.'],
  [/^model\.layers\.(\d+)\.post_attention_layernorm\./, 'blk.$1.post_attention_norm.'],
  [/^model\.layers\.(\d+)\.self_attn\.([qkv])_(proj|norm)\./, 'blk.$1.attn_$2_$3.'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj\./, 'blk.$1.attn_output.'],
  [/^model\.layers\.(\d+)\.self_attn\.qkv_proj\./, 'blk.$1.attn_qkv.'],
  [/^model\.layers\.(\d+)\.mlp\.(?:gate_)?(\w+)_proj\./, 'blk.$1.ffn_$2.'],
  [/_proj\.(?=weight|bias)/, '.'],
];

/** Gemma's norms as converters write them, in float32. */
function plusOne({ dtype, shape, bytes }: Stored): Stored {
  if (dtype !== 'BF16') throw new Error(`Expected BF16 for a norm of Gemma but received ${dtype}`);
  const values = Float32Array.from({ length: bytes.length / 2 }, (_, i) => {
    const one = new Float32Array(Uint32Array.of(bytes.readUInt16LE(2 * i) << 16).buffer);
    return 1 + one[0]!;
  });
  return { dtype: 'F32', shape, bytes: Buffer.from(values.buffer) };
}

function textTensors(stored: Map<string, Stored>, config: Json, paired: boolean, prefix: RegExp): TensorSpec[] {
  const tensors: TensorSpec[] = [];
  const gemma = (config.model_type as string).startsWith('gemma');
  for (const [full, tensor] of stored) {
    if (!prefix.test(full)) continue;
    const mapped = textNames.reduce((n, [from, to]) => n.replace(from, to), full.replace(prefix, ''));
    const name = gemma ? mapped : mapped.replace('post_attention_norm', 'ffn_norm');
    const heads = { attn_q: config.num_attention_heads, attn_k: config.num_key_value_heads } as Json;
    const part = /^blk\.\d+\.(attn_[qk])\./.exec(name)?.[1];
    const whole = gemma && name.endsWith('norm.weight') ? plusOne(tensor) : tensor;
    tensors.push(spec(name, paired && part !== undefined ? pairRows(whole, heads[part] as number) : whole));
  }
  return tensors;
}

const vector = (name: string, values: readonly number[]): TensorSpec => ({
  name,
  shape: [values.length],
  type: 'f32',
  data: new Uint8Array(Float32Array.from(values).buffer),
});

/** Llama 3's scaling as converters write it, what each frequency is divided by; and LongRoPE's two lists. */
function ropeFactors({
  rope_scaling: scaling,
  rope_theta: theta,
  head_dim,
  hidden_size,
  num_attention_heads,
}: Json): TensorSpec[] {
  if (scaling?.long_factor) {
    return (['long', 'short'] as const).map((l) =>
      vector(`rope_factors_${l}.weight`, scaling[`${l}_factor`] as number[]),
    );
  }
  if (scaling?.rope_type !== 'llama3') return [];
  const headDim = (head_dim ?? hidden_size / num_attention_heads) as number;
  const {
    factor,
    low_freq_factor: low,
    high_freq_factor: high,
    original_max_position_embeddings: original,
  } = scaling as Record<string, number>;
  const factors = Array.from({ length: headDim / 2 }, (_, i) => {
    const turns = original! / (2 * Math.PI * theta ** ((2 * i) / headDim));
    if (turns > high!) return 1;
    if (turns < low!) return factor!;
    const smooth = (turns - low!) / (high! - low!);
    return 1 / ((1 - smooth) / factor! + smooth);
  });
  return [vector('rope_freqs.weight', factors)];
}

/** What a scaling has beside its tensors. */
function scalingEntries(config: Json, name: string): Entry[] {
  const scaling = (config.rope_scaling ?? {}) as Json;
  const key = (k: string): string => `${name}.rope.scaling.${k}`;
  const type = (scaling.rope_type ?? scaling.type) as string | undefined;
  if (type === 'longrope') {
    const original = config.original_max_position_embeddings as number;
    const stretch = (config.max_position_embeddings as number) / original;
    return [
      [key('original_context_length'), 'u32', original],
      [key('attn_factor'), 'f32', Math.sqrt(1 + Math.log(stretch) / Math.log(original))],
    ];
  }
  if (type !== 'linear' && type !== 'yarn') return [];
  const original = scaling.original_max_position_embeddings as number | undefined;
  return [
    [key('type'), 'str', type],
    [key('factor'), 'f32', scaling.factor as number],
    ...(original === undefined ? [] : ([[key('original_context_length'), 'u32', original]] as Entry[])),
  ];
}

/** The scale of scores and the pattern of windows go without saying in published models; these small ones have others. */
function gemmaEntries(config: Json, name: string): Entry[] {
  const key = (k: string): string => `${name}.${k}`;
  const caps = ['attn_logit_softcapping', 'final_logit_softcapping'].filter((cap) => config[cap] !== undefined);
  const pattern = config.sliding_window_pattern as number | undefined;
  return [
    ...caps.map((cap): Entry => [key(cap), 'f32', config[cap] as number]),
    [key('attention.scale'), 'f32', (config.query_pre_attn_scalar as number) ** -0.5],
    ...(pattern === undefined ? [] : ([[key('attention.sliding_window_pattern'), 'u32', pattern]] as Entry[])),
  ];
}

export interface ConvertOptions {
  /** tokenizer.ggml.pre. */
  pre?: string;
  metadata?: Entry[];
}

/** The language model of a folder; of a LLaVA folder, its text part. */
export function convertText(folder: string, file: string, options: ConvertOptions = {}): string {
  const whole = json(folder, 'config.json')!;
  const config = (whole.text_config ?? whole) as Json;
  const names: Readonly<Record<string, string>> = { mistral: 'llama', gemma3_text: 'gemma3' };
  const name = names[config.model_type as string] ?? (config.model_type as string);
  const key = (k: string): string => `${name}.${k}`;
  const rope = (config.rope_parameters ?? {}) as Json;
  const metadata: Entry[] = [
    ['general.architecture', 'str', name],
    [key('block_count'), 'u32', config.num_hidden_layers as number],
    [key('context_length'), 'u32', (config.max_position_embeddings ?? 131072) as number],
    [key('embedding_length'), 'u32', config.hidden_size as number],
    [key('feed_forward_length'), 'u32', config.intermediate_size as number],
    [key('attention.head_count'), 'u32', config.num_attention_heads as number],
    [key('attention.head_count_kv'), 'u32', config.num_key_value_heads as number],
    [key('attention.layer_norm_rms_epsilon'), 'f32', config.rms_norm_eps as number],
    [key('rope.freq_base'), 'f32', (config.rope_theta ?? rope.rope_theta) as number],
    ...((config.head_dim ?? undefined) === undefined
      ? []
      : ([[key('attention.key_length'), 'u32', config.head_dim as number]] as Entry[])),
    ...(typeof config.sliding_window === 'number' && config.use_sliding_window !== false
      ? ([[key('attention.sliding_window'), 'u32', config.sliding_window]] as Entry[])
      : []),
    ...scalingEntries(config, name),
    ...(name.startsWith('gemma') ? gemmaEntries(config, name) : []),
    ...tokenizerEntries(folder, options.pre),
    ...(options.metadata ?? []),
  ];
  const stored = readCheckpoint(folder);
  const prefix = whole.text_config ? /^(?:model\.)?language_model\.(?=model\.|lm_head\.)|^(?=lm_head\.)/ : /^/;
  const tensors = [...textTensors(stored, config, name === 'llama', prefix), ...ropeFactors(config)];
  return writeGguf(file, { metadata, tensors });
}

const visionNames: [RegExp, string][] = [
  [/^(?:model\.)?vision_tower\.vision_model\./, ''],
  [/^embeddings\.class_embedding$/, 'v.class_embd'],
  [/^embeddings\.patch_embedding\./, 'v.patch_embd.'],
  [/^embeddings\.position_embedding\./, 'v.position_embd.'],
  [/^pre_layrnorm\./, 'v.pre_ln.'],
  [/^post_layernorm\./, 'v.post_ln.'],
  [/^encoder\.layers\.(\d+)\./, 'v.blk.$1.'],
  [/self_attn\.out_proj/, 'attn_out'],
  [/self_attn\.([qkv])_proj/, 'attn_$1'],
  [/layer_norm([12])/, 'ln$1'],
  [/^(?:model\.)?image_newline$/, 'model.image_newline'],
  [/^(?:model\.)?multi_modal_projector\.linear_1\./, 'mm.0.'],
  [/^(?:model\.)?multi_modal_projector\.linear_2\./, 'mm.2.'],
];

/**
 * Tower and projector of a LLaVA folder.
 * @param generation 'cut': as converters of 2023 to 2025 do, without the last block and the last norm, the MLP's layers named the wrong
 *   way round; 'whole': every tensor, named in order
 */
export function convertVision(folder: string, file: string, generation: 'cut' | 'whole'): string {
  const config = json(folder, 'config.json')!;
  const vision = config.vision_config as Json;
  const settings = json(folder, 'preprocessor_config.json')!;
  const blocks = (vision.num_hidden_layers as number) - (generation === 'cut' ? 1 : 0);
  const mlp = generation === 'cut' ? ['ffn_down', 'ffn_up'] : ['ffn_up', 'ffn_down'];
  const metadata: Entry[] = [
    ['general.architecture', 'str', 'clip'],
    ['clip.has_vision_encoder', 'bool', true],
    ['clip.has_llava_projector', 'bool', true],
    ['clip.projector_type', 'str', 'mlp'],
    ['clip.use_gelu', 'bool', false],
    ['clip.vision.image_size', 'u32', vision.image_size as number],
    ['clip.vision.patch_size', 'u32', vision.patch_size as number],
    ['clip.vision.embedding_length', 'u32', vision.hidden_size as number],
    ['clip.vision.feed_forward_length', 'u32', vision.intermediate_size as number],
    ['clip.vision.projection_dim', 'u32', vision.projection_dim as number],
    ['clip.vision.block_count', 'u32', blocks],
    ['clip.vision.attention.head_count', 'u32', vision.num_attention_heads as number],
    ['clip.vision.attention.layer_norm_epsilon', 'f32', 1e-5],
    ['clip.vision.image_mean', 'f32', settings.image_mean as number[]],
    ['clip.vision.image_std', 'f32', settings.image_std as number[]],
    ...(Array.isArray(config.image_grid_pinpoints)
      ? ([
          ['clip.vision.image_grid_pinpoints', 'i32', (config.image_grid_pinpoints as number[][]).flat()],
          ['clip.vision.mm_patch_merge_type', 'str', 'spatial_unpad'],
        ] as Entry[])
      : []),
  ];
  const tensors: TensorSpec[] = [];
  for (const [full, tensor] of readCheckpoint(folder)) {
    if (!/vision_tower|multi_modal_projector|image_newline/.test(full)) continue;
    const name = visionNames
      .reduce((n, [from, to]) => n.replace(from, to), full)
      .replace(/mlp\.fc([12])/, (_, n: string) => mlp[Number(n) - 1]!);
    const block = /^v\.blk\.(\d+)\./.exec(name)?.[1];
    if (generation === 'cut' && (name.startsWith('v.post_ln.') || (block !== undefined && Number(block) >= blocks)))
      continue;
    tensors.push(spec(name, tensor));
  }
  return writeGguf(file, { metadata, tensors });
}
