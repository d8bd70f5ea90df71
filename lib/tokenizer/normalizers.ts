/** Normalizers of tokenizer.json: text to text. */
import { OcelliError } from '../errors';
import { patternOf, whiteSpace } from './pattern';

export type Normalizer = (text: string) => string;
type Json = Record<string, unknown>;

export function normalizerOf(spec: unknown): Normalizer {
  if (spec === null || spec === undefined) return (text) => text;
  const json = spec as Json;
  switch (json.type) {
    case 'Sequence': {
      const parts = (json.normalizers as unknown[]).map(normalizerOf);
      return (text) => parts.reduce((t, part) => part(t), text);
    }
    case 'Prepend':
      return (text) => (text === '' ? text : String(json.prepend) + text);
    case 'Replace': {
      const pattern = patternOf(json.pattern);
      const content = String(json.content);
      return (text) => text.replace(pattern, () => content);
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD': {
      const form = json.type;
      return (text) => text.normalize(form);
    }
    case 'Lowercase':
      return lowercase;
    case 'Strip':
      return (text) => strip(text, json.strip_left !== false, json.strip_right !== false);
    case 'StripAccents':
      return (text) => text.replace(/\p{Mn}/gu, '');
    case 'Nmt':
      return nmt;
    case 'Precompiled':
      return precompiled(String(json.precompiled_charsmap));
    case 'BertNormalizer':
      return bert(json);
    default:
      throw new OcelliError('ERR_TOKENIZER', `Expected a known normalizer but received '${String(json.type)}'`);
  }
}

/** Character by character: no final sigma, as the reference does it. */
function lowercase(text: string): string {
  return /[\u0080-\uffff]/.test(text) ? Array.from(text, (c) => c.toLowerCase()).join('') : text.toLowerCase();
}

function strip(text: string, left: boolean, right: boolean): string {
  const chars = Array.from(text);
  let start = 0;
  let end = chars.length;
  while (left && start < end && whiteSpace.test(chars[start]!)) start++;
  while (right && end > start && whiteSpace.test(chars[end - 1]!)) end--;
  return chars.slice(start, end).join('');
}

function nmt(text: string): string {
  return text
    .replace(/[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/gu, '')
    .replace(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/gu, ' ');
}

function bert(json: Json): Normalizer {
  const lower = json.lowercase !== false;
  const accents = json.strip_accents === null || json.strip_accents === undefined ? lower : json.strip_accents === true;
  return (input) => {
    let text = input;
    if (json.clean_text !== false) {
      text = Array.from(text)
        .filter(
          (c) =>
            c !== '\0' &&
            c !== '\ufffd' &&
            (c === '\t' || c === '\n' || c === '\r' || !/[\p{Cc}\p{Cf}\p{Co}]/u.test(c)),
        )
        .map((c) => (whiteSpace.test(c) ? ' ' : c))
        .join('');
    }
    if (json.handle_chinese_chars !== false) {
      text = text.replace(
        /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu,
        (c) => ` ${c} `,
      );
    }
    if (accents) text = text.normalize('NFD').replace(/\p{Mn}/gu, '');
    return lower ? lowercase(text) : text;
  };
}

/**
 * SentencePiece's compiled character map: a double-array trie (Darts) over UTF-8, then zero-terminated replacements
 * (sentencepiece, src/normalizer.cc). Graphemes of under six bytes are looked up whole, then characters.
 */
function precompiled(base64: string): Normalizer {
  const blob = Buffer.from(base64, 'base64');
  const trieBytes = blob.length >= 4 ? blob.readUInt32LE(0) : 0;
  if (trieBytes % 4 !== 0 || 4 + trieBytes > blob.length)
    throw new OcelliError('ERR_TOKENIZER', 'Expected a whole precompiled_charsmap');
  const trie = new Uint32Array(trieBytes / 4);
  for (let i = 0; i < trie.length; i++) trie[i] = blob.readUInt32LE(4 + 4 * i);
  const strings = blob.subarray(4 + trieBytes);
  const offset = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6);
  const lookup = (chunk: string): string | undefined => {
    let position = offset(trie[0] ?? 0);
    for (const byte of Buffer.from(chunk, 'utf8')) {
      if (byte === 0) return undefined;
      position ^= byte;
      const unit = trie[position];
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return undefined;
      position ^= offset(unit);
      if ((unit >>> 8) & 1) {
        const start = (trie[position] ?? 0) & 0x7fffffff;
        const end = strings.indexOf(0, start);
        return strings.toString('utf8', start, end < 0 ? strings.length : end);
      }
    }
    return undefined;
  };
  const segmenter = new Intl.Segmenter('und', { granularity: 'grapheme' });
  return (text) => {
    let out = '';
    for (const { segment } of segmenter.segment(text)) {
      const whole = Buffer.byteLength(segment) < 6 ? lookup(segment) : undefined;
      out += whole ?? Array.from(segment, (c) => lookup(c) ?? c).join('');
    }
    return out;
  };
}
