/** A GGUF's vocabulary -> tokenizer.json and tokenizer_config.json. */
import type { JsonObject } from '../config/json-file';
import { OcelliError } from '../errors';
import type { GgufFile } from './file';
import { preTokenizer } from './pre-tokenizers';

export interface TokenizerFiles {
  tokenizer: JsonObject;
  config: JsonObject;
  /** Of a model with pictures. */
  imageTokenId?: number;
}

/** Kinds of tokens, as the file numbers them. */
const kinds = { unknown: 2, control: 3, userDefined: 4, byte: 6 } as const;

interface Vocabulary {
  tokens: string[];
  kindOf(id: number): number;
  unknown: number | undefined;
}

export function tokenizerFiles(gguf: GgufFile, { image }: { image: boolean }): TokenizerFiles {
  const tokens = gguf.required('tokenizer.ggml.tokens', gguf.strings);
  const types = gguf.numbers('tokenizer.ggml.token_type');
  const unknown = gguf.number('tokenizer.ggml.unknown_token_id');
  const vocabulary: Vocabulary = { tokens, kindOf: (id) => types?.[id] ?? 1, unknown };
  const model = gguf.required('tokenizer.ggml.model', gguf.string);
  const parts =
    model === 'gpt2' ? byteLevel(gguf, vocabulary) : model === 'llama' ? pieces(gguf, vocabulary) : undefined;
  if (!parts) {
    throw new OcelliError(
      'ERR_TOKENIZER',
      `Expected gpt2 or llama for tokenizer.ggml.model in ${gguf.path} but received '${model}'`,
    );
  }
  const { addBos, ...pipeline } = parts;
  const added = addedTokens(vocabulary);
  let imageTokenId: number | undefined;
  if (image) {
    const found = tokens.indexOf('<image>');
    // Files made before the token was: the unknown token, which byte tokens leave without a use, stands for a picture's rows.
    imageTokenId = found >= 0 ? found : (unknown ?? 0);
    if (!added.some((t) => t.content === '<image>')) added.push(addedToken(imageTokenId, '<image>', true));
  }
  return {
    tokenizer: {
      ...pipeline,
      added_tokens: added,
      post_processor: postProcessor(gguf, addBos),
    },
    config: { ...specialTokens(gguf, tokens), ...chatTemplates(gguf) },
    ...(imageTokenId === undefined ? {} : { imageTokenId }),
  };
}

/** Byte-level BPE. */
function byteLevel(gguf: GgufFile, { tokens, unknown }: Vocabulary): JsonObject & { addBos: boolean } {
  const { normalizer, pre_tokenizer, ignoreMerges, addBos } = preTokenizer(gguf);
  return {
    normalizer,
    pre_tokenizer,
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab: tokens.map((t) => [t, 0]),
      merges: gguf.required('tokenizer.ggml.merges', gguf.strings),
      ignore_merges: ignoreMerges,
      ...(unknown === undefined ? {} : { unk_token: tokens[unknown] }),
    },
    addBos,
  };
}

/** SentencePiece's BPE, as tokenizer.json writes it: scores become the order of merges. */
function pieces(gguf: GgufFile, vocabulary: Vocabulary): JsonObject & { addBos: boolean } {
  const { tokens, unknown } = vocabulary;
  const prefix = gguf.boolean('tokenizer.ggml.add_space_prefix') ?? true;
  const space = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  return {
    normalizer: prefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, space] } : space,
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      vocab: tokens.map((t) => [t, 0]),
      merges: mergesOf(vocabulary, gguf.required('tokenizer.ggml.scores', gguf.numbers)),
      fuse_unk: true,
      byte_fallback: true,
      ...(unknown === undefined ? {} : { unk_token: tokens[unknown] }),
    },
    addBos: true,
  };
}

/**
 * SentencePiece joins the pair whose piece has the highest score: every way to cut a piece in two is a merge, ranked by that score.
 * Of equal ones the longer left part comes first, as in transformers' conversion.
 */
function mergesOf({ tokens, kindOf }: Vocabulary, scores: readonly number[]): [string, string][] {
  const ids = new Map<string, number>();
  tokens.forEach((token, id) => {
    if (kindOf(id) === 1) ids.set(token, id);
  });
  const merges: { pair: [string, string]; score: number }[] = [];
  for (const [token, id] of ids) {
    for (let at = 1; at < token.length; at++) {
      const pair: [string, string] = [token.slice(0, at), token.slice(at)];
      if (ids.has(pair[0]) && ids.has(pair[1])) merges.push({ pair, score: scores[id] ?? 0 });
    }
  }
  const length = ({ pair }: (typeof merges)[number], side: 0 | 1): number => Array.from(pair[side]).length;
  merges.sort((a, b) => b.score - a.score || length(b, 0) - length(a, 0) || length(b, 1) - length(a, 1));
  return merges.map((m) => m.pair);
}

function addedTokens({ tokens, kindOf }: Vocabulary): JsonObject[] {
  return tokens.flatMap((content, id) => {
    const kind = kindOf(id);
    const special = kind === kinds.control || kind === kinds.unknown;
    return special || kind === kinds.userDefined ? [addedToken(id, content, special)] : [];
  });
}

function addedToken(id: number, content: string, special: boolean): JsonObject {
  return { id, content, special, single_word: false, lstrip: false, rstrip: false, normalized: false };
}

function postProcessor(gguf: GgufFile, addBos: boolean): JsonObject | null {
  const special: JsonObject = {};
  const one = (name: 'bos' | 'eos', absent: boolean): JsonObject[] => {
    const id = gguf.number(`tokenizer.ggml.${name}_token_id`);
    if (id === undefined || !(gguf.boolean(`tokenizer.ggml.add_${name}_token`) ?? absent)) return [];
    special[name] = { id: name, ids: [id] };
    return [{ SpecialToken: { id: name } }];
  };
  const single = [...one('bos', addBos), { Sequence: { id: 'A' } }, ...one('eos', false)];
  return single.length === 1 ? null : { type: 'TemplateProcessing', single, special_tokens: special };
}

function specialTokens(gguf: GgufFile, tokens: readonly string[]): JsonObject {
  const names = { bos: 'bos', eos: 'eos', unk: 'unknown', pad: 'padding', sep: 'seperator', cls: 'cls', mask: 'mask' };
  const found = Object.entries(names).map(([name, key]) => {
    const id = gguf.number(`tokenizer.ggml.${key}_token_id`);
    return [`${name}_token`, id === undefined ? undefined : tokens[id]];
  });
  return Object.fromEntries(found.filter(([, token]) => token !== undefined)) as JsonObject;
}

function chatTemplates(gguf: GgufFile): JsonObject {
  const template = gguf.string('tokenizer.chat_template');
  if (template === undefined) return {};
  const others = (gguf.strings('tokenizer.chat_templates') ?? []).map((name) => ({
    name,
    template: gguf.string(`tokenizer.chat_template.${name}`) ?? '',
  }));
  return {
    chat_template:
      others.length === 0
        ? template
        : [{ name: 'default', template }, ...others.filter((t) => t.name !== 'default' && t.template !== '')],
  };
}
