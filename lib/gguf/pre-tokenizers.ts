/**
 * How text is cut before byte-level BPE. A GGUF has a name for it, not the rule: the rule is what the tokenizer.json of the models that
 * bear the name says.
 */
import type { JsonObject } from '../config/json-file';
import { OcelliError } from '../errors';
import type { GgufFile } from './file';

export interface PreTokenizer {
  normalizer: JsonObject | null;
  pre_tokenizer: JsonObject;
  /** A piece that is a token stays whole. */
  ignoreMerges: boolean;
  /** Where the file does not say. */
  addBos: boolean;
}

const byteLevel = (useRegex: boolean): JsonObject => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  use_regex: useRegex,
});

function sequence(...parts: JsonObject[]): JsonObject {
  return { type: 'Sequence', pretokenizers: parts };
}

function pattern(regex: string): JsonObject {
  return sequence({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false }, byteLevel(false));
}

/** GPT-4's pattern with runs of at most `digits` digits. */
const words = (digits: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const tekken =
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*|\\p{N}` +
  '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

const plain: PreTokenizer = {
  normalizer: null,
  pre_tokenizer: byteLevel(true),
  ignoreMerges: false,
  addBos: false,
};
/** Each digit stands alone, then GPT-2's rule. */
const digits: PreTokenizer = {
  ...plain,
  pre_tokenizer: sequence({ type: 'Digits', individual_digits: true }, byteLevel(true)),
};
const llama3: PreTokenizer = {
  ...plain,
  pre_tokenizer: pattern(words('\\p{N}{1,3}')),
  ignoreMerges: true,
  addBos: true,
};
const qwen2: PreTokenizer = { ...plain, normalizer: { type: 'NFC' }, pre_tokenizer: pattern(words('\\p{N}')) };

const byName: Readonly<Record<string, PreTokenizer>> = {
  'gpt-2': plain,
  smollm: digits,
  starcoder: digits,
  refact: digits,
  codeshell: digits,
  'llama-bpe': llama3,
  llama3,
  'llama-v3': llama3,
  qwen2,
  'deepseek-r1-qwen': { ...qwen2, normalizer: null },
  tekken: { ...llama3, pre_tokenizer: pattern(tekken) },
};

export function preTokenizer(gguf: GgufFile): PreTokenizer {
  const name = gguf.required('tokenizer.ggml.pre', gguf.string);
  if (Object.hasOwn(byName, name)) return byName[name]!;
  throw new OcelliError(
    'ERR_TOKENIZER',
    `Expected one of ${Object.keys(byName).join(', ')} for tokenizer.ggml.pre in ${gguf.path} but received '${name}'`,
    { hint: 'Load the safetensors checkpoint of this model: its tokenizer.json has the rule.' },
  );
}
