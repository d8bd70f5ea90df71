/** Decoders of tokenizer.json: tokens to text. */
import { OcelliError } from '../errors';
import { textToBytes } from './byte-level';
import { patternOf } from './pattern';

export type Decoder = (tokens: string[]) => string[];
type Json = Record<string, unknown>;

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
const strictUtf8 = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

export function decoderOf(spec: unknown): Decoder {
  // No decoder: tokens are words.
  if (spec === null || spec === undefined) return (tokens) => tokens.map((t, i) => (i === 0 ? t : ` ${t}`));
  const json = spec as Json;
  switch (json.type) {
    case 'Sequence': {
      const parts = (json.decoders as unknown[]).map(decoderOf);
      return (tokens) => parts.reduce((t, part) => part(t), tokens);
    }
    case 'ByteLevel':
      return (tokens) => [utf8.decode(Uint8Array.from(tokens.flatMap(textToBytes)))];
    case 'ByteFallback':
      return byteFallback;
    case 'Fuse':
      return (tokens) => [tokens.join('')];
    case 'Replace': {
      const pattern = patternOf(json.pattern);
      const content = String(json.content);
      return (tokens) => tokens.map((t) => t.replace(pattern, () => content));
    }
    case 'Strip': {
      const content = String(json.content);
      const start = Number(json.start);
      const stop = Number(json.stop);
      return (tokens) =>
        tokens.map((t) => {
          const chars = Array.from(t);
          let from = 0;
          let to = chars.length;
          while (from < start && chars[from] === content) from++;
          while (chars.length - to < stop && to > from && chars[to - 1] === content) to--;
          return chars.slice(from, to).join('');
        });
    }
    case 'Metaspace': {
      const mark = typeof json.replacement === 'string' ? json.replacement : '▁';
      const prefixed =
        typeof json.prepend_scheme === 'string' ? json.prepend_scheme !== 'never' : json.add_prefix_space !== false;
      return (tokens) =>
        tokens.map((t, i) =>
          (i === 0 && prefixed && t.startsWith(mark) ? t.slice(mark.length) : t).replaceAll(mark, ' '),
        );
    }
    case 'WordPiece':
      return wordPiece(String(json.prefix ?? '##'), json.cleanup !== false);
    case 'BPEDecoder': {
      const suffix = String(json.suffix ?? '</w>');
      return (tokens) => tokens.map((t, i) => t.replaceAll(suffix, i === tokens.length - 1 ? '' : ' '));
    }
    default:
      throw new OcelliError('ERR_TOKENIZER', `Expected a known decoder but received '${String(json.type)}'`);
  }
}

/** Runs of <0xNN>: their text where the whole run is UTF-8, else U+FFFD for each byte. */
function byteFallback(tokens: string[]): string[] {
  const out: string[] = [];
  let run: number[] = [];
  const flush = (): void => {
    if (run.length === 0) return;
    try {
      out.push(strictUtf8.decode(Uint8Array.from(run)));
    } catch {
      for (let i = 0; i < run.length; i++) out.push('\ufffd');
    }
    run = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9a-fA-F]{2})>$/.exec(token);
    if (byte) run.push(parseInt(byte[1]!, 16));
    else {
      flush();
      out.push(token);
    }
  }
  flush();
  return out;
}

function wordPiece(prefix: string, cleanup: boolean): Decoder {
  const clean = (t: string): string =>
    t
      .replaceAll(' .', '.')
      .replaceAll(' ?', '?')
      .replaceAll(' !', '!')
      .replaceAll(' ,', ',')
      .replaceAll(" ' ", "'")
      .replaceAll(" n't", "n't")
      .replaceAll(" 'm", "'m")
      .replaceAll(' do not', " don't")
      .replaceAll(" 's", "'s")
      .replaceAll(" 've", "'ve")
      .replaceAll(" 're", "'re");
  return (tokens) =>
    tokens.map((t, i) => {
      const text = i === 0 ? t : t.startsWith(prefix) ? t.slice(prefix.length) : ` ${t}`;
      return cleanup ? clean(text) : text;
    });
}
