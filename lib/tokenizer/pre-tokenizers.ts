/** Pre-tokenizers of tokenizer.json: stretches of text to the pieces that the model sees. */
import { OcelliError } from '../errors';
import { bytesToText } from './byte-level';
import { patternOf, whiteSpace } from './pattern';

/** A piece, and whether it starts the original text. */
export interface Piece {
  text: string;
  first: boolean;
}
export type PreTokenizer = (pieces: Piece[]) => Piece[];
type Json = Record<string, unknown>;

const gpt2 = patternOf({ Regex: "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+" });
const punctuation = /[\p{P}$+<=>^`|~]/gu;

export function preTokenizerOf(spec: unknown): PreTokenizer {
  if (spec === null || spec === undefined) return (pieces) => pieces;
  const json = spec as Json;
  switch (json.type) {
    case 'Sequence': {
      const parts = (json.pretokenizers as unknown[]).map(preTokenizerOf);
      return (pieces) => parts.reduce((p, part) => part(p), pieces);
    }
    case 'ByteLevel':
      return byteLevel(json);
    case 'Split': {
      const pattern = patternOf(json.pattern);
      const behavior = String(json.behavior);
      return (pieces) => pieces.flatMap((p) => split(p, pattern, behavior, json.invert === true));
    }
    case 'Metaspace':
      return metaspace(json);
    case 'Digits':
      return each(json.individual_digits === true ? /\p{N}/gu : /\p{N}+/gu, 'Isolated');
    case 'Punctuation':
      return each(punctuation, typeof json.behavior === 'string' ? json.behavior : 'Isolated');
    case 'Whitespace':
      return each(patternOf({ Regex: '\\w+|[^\\w\\s]+' }), 'Removed', true);
    case 'WhitespaceSplit':
      return each(patternOf({ Regex: '\\s' }), 'Removed');
    case 'CharDelimiterSplit':
      return each(patternOf(String(json.delimiter)), 'Removed');
    case 'BertPreTokenizer': {
      const spaces = each(patternOf({ Regex: '\\s' }), 'Removed');
      const marks = each(punctuation, 'Isolated');
      return (pieces) => marks(spaces(pieces));
    }
    default:
      throw new OcelliError('ERR_TOKENIZER', `Expected a known pre-tokenizer but received '${String(json.type)}'`);
  }
}

function each(pattern: RegExp, behavior: string, invert = false): PreTokenizer {
  return (pieces) => pieces.flatMap((p) => split(p, pattern, behavior, invert));
}

/** Cuts at the matches; what becomes of them is the behavior's. */
function split(piece: Piece, pattern: RegExp, behavior: string, invert: boolean): Piece[] {
  const { text } = piece;
  const parts: { text: string; match: boolean }[] = [];
  let last = 0;
  for (const found of text.matchAll(pattern)) {
    if (found[0] === '') continue;
    if (found.index > last) parts.push({ text: text.slice(last, found.index), match: invert });
    parts.push({ text: found[0], match: !invert });
    last = found.index + found[0].length;
  }
  if (last < text.length) parts.push({ text: text.slice(last), match: invert });
  const out: string[] = [];
  let leading = '';
  let previousMatch = false;
  for (const part of parts) {
    if (behavior === 'Removed') {
      if (!part.match) out.push(part.text);
    } else if (behavior === 'MergedWithPrevious') {
      if (part.match && !previousMatch && out.length > 0) out.push(out.pop()! + part.text);
      else out.push(part.text);
    } else if (behavior === 'MergedWithNext') {
      if (part.match) {
        if (leading !== '') out.push(leading);
        leading = part.text;
      } else {
        out.push(leading + part.text);
        leading = '';
      }
    } else if (behavior === 'Contiguous' && part.match === previousMatch && out.length > 0) {
      out.push(out.pop()! + part.text);
    } else out.push(part.text);
    previousMatch = part.match;
  }
  if (leading !== '') out.push(leading);
  return out.map((t, i) => ({ text: t, first: piece.first && i === 0 && text.startsWith(t) }));
}

function byteLevel(json: Json): PreTokenizer {
  const prefix = json.add_prefix_space !== false;
  const useRegex = json.use_regex !== false;
  return (pieces) => {
    const out: Piece[] = [];
    for (const { text, first } of pieces) {
      const full = prefix && !text.startsWith(' ') ? ` ${text}` : text;
      const words = useRegex ? (full.match(gpt2) ?? []) : [full];
      for (const w of words) out.push({ text: bytesToText(w), first: first && out.length === 0 });
    }
    return out;
  };
}

function metaspace(json: Json): PreTokenizer {
  const mark = typeof json.replacement === 'string' ? json.replacement : '▁';
  const scheme =
    typeof json.prepend_scheme === 'string'
      ? json.prepend_scheme
      : json.add_prefix_space === false
        ? 'never'
        : 'always';
  const cut = json.split !== false;
  const atMark = patternOf(mark);
  return (pieces) =>
    pieces.flatMap(({ text, first }) => {
      let marked = text.replaceAll(' ', mark);
      if ((scheme === 'always' || (scheme === 'first' && first)) && !marked.startsWith(mark)) marked = mark + marked;
      const piece = { text: marked, first };
      return cut ? split(piece, atMark, 'MergedWithNext', false) : [piece];
    });
}

export { whiteSpace };
