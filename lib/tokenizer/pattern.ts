/** Regular expressions of tokenizer.json (Oniguruma) as JavaScript ones. */
import { OcelliError } from '../errors';

/** Unicode White_Space: what \s means there. JavaScript's own \s has U+FEFF in place of U+0085. */
const space = '\\t-\\r\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const word = '\\p{L}\\p{M}\\p{N}\\p{Pc}';

export const whiteSpace = new RegExp(`^[${space}]$`, 'u');

type Json = Record<string, unknown>;

/** `{ String }` or `{ Regex }`, or a bare string, as a global RegExp. */
export function patternOf(pattern: unknown): RegExp {
  if (typeof pattern === 'string') return new RegExp(escapeRegExp(pattern), 'gu');
  const { String: text, Regex: regex } = (pattern ?? {}) as Json;
  if (typeof text === 'string') return new RegExp(escapeRegExp(text), 'gu');
  if (typeof regex === 'string') return translate(regex);
  throw new OcelliError('ERR_TOKENIZER', 'Expected a String or Regex pattern in tokenizer.json');
}

export function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/gu, '\\$&');
}

function translate(source: string): RegExp {
  let out = '';
  let inClass = 0;
  /** Depths of open (?i: groups. */
  const insensitive: number[] = [];
  let depth = 0;
  for (let i = 0; i < source.length; i++) {
    const c = source[i]!;
    const next = source[i + 1];
    if (c === '\\' && next !== undefined) {
      i++;
      if (next === 's') out += inClass ? space : `[${space}]`;
      else if (next === 'S') out += inClass ? `\\S` : `[^${space}]`;
      else if (next === 'w') out += inClass ? word : `[${word}]`;
      else if (next === 'W') out += inClass ? '\\W' : `[^${word}]`;
      else if (next === 'd') out += '\\p{Nd}';
      else if (next === 'A') out += '^';
      else if (next === 'z' || next === 'Z') out += '$';
      else if (next === 'h') out += '[0-9a-fA-F]';
      else if (next === '-' && !inClass) out += '-';
      else if (/[a-zA-Z0-9\\^$.*+?()[\]{}|/-]/.test(next)) out += `\\${next}`;
      else out += next;
    } else if (inClass) {
      if (c === '[') out += '\\[';
      else {
        if (c === ']') inClass = 0;
        out += c;
      }
    } else if (c === '[') {
      inClass = 1;
      out += c;
      if (next === '^') {
        out += '^';
        i++;
      }
    } else if (c === '(') {
      depth++;
      if (source.startsWith('(?i:', i)) {
        insensitive.push(depth);
        out += '(?:';
        i += 3;
      } else if (source.startsWith('(?>', i)) {
        out += '(?:';
        i += 2;
      } else out += c;
    } else if (c === ')') {
      if (insensitive.at(-1) === depth) insensitive.pop();
      depth--;
      out += c;
    } else if (c === '+' && /(?:^|[^\\])(?:[?*+]|\{\d+(?:,\d*)?\})$/.test(source.slice(Math.max(0, i - 12), i))) {
      // Possessive: the alternatives of these patterns do not overlap, so greedy gives the same matches.
    } else if (insensitive.length > 0 && /[a-z]/i.test(c)) {
      const both = c.toLowerCase() + c.toUpperCase();
      out += `[${both}${/s/i.test(c) ? 'ſ' : /k/i.test(c) ? '\u212a' : ''}]`;
    } else out += c;
  }
  try {
    return new RegExp(out, 'gu');
  } catch (cause) {
    throw new OcelliError(
      'ERR_TOKENIZER',
      `Expected a pattern that JavaScript can express but received ${JSON.stringify(source.slice(0, 200))}`,
      { cause },
    );
  }
}
