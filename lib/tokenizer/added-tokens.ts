/** Added tokens: cut out of the text before anything else looks at it. */
import { escapeRegExp, whiteSpace } from './pattern';

export interface AddedToken {
  id: number;
  content: string;
  singleWord: boolean;
  lstrip: boolean;
  rstrip: boolean;
  normalized: boolean;
  special: boolean;
}

/** A stretch of text, or the id of an added token in its place. */
export interface Stretch {
  text: string;
  id?: number;
}

const wordCharacter = /[\p{L}\p{M}\p{N}\p{Pc}]/u;

/** Finds the longest token at the leftmost place, again and again. */
export class AddedTokenMatcher {
  private readonly pattern: RegExp | undefined;
  private readonly byContent = new Map<string, AddedToken>();

  constructor(tokens: readonly AddedToken[], normalize: (text: string) => string = (t) => t) {
    for (const token of tokens) {
      const content = normalize(token.content);
      if (content !== '' && !this.byContent.has(content)) this.byContent.set(content, token);
    }
    if (this.byContent.size === 0) return;
    const contents = [...this.byContent.keys()].sort((a, b) => b.length - a.length);
    this.pattern = new RegExp(contents.map(escapeRegExp).join('|'), 'gu');
  }

  split(text: string): Stretch[] {
    if (!this.pattern) return [{ text }];
    const out: Stretch[] = [];
    let last = 0;
    for (const match of text.matchAll(this.pattern)) {
      const token = this.byContent.get(match[0])!;
      let start = match.index;
      let end = start + match[0].length;
      if (start < last) continue; // swallowed by the token before
      if (token.singleWord && (isWord(text, start, -1) || isWord(text, end, 1))) continue;
      if (token.lstrip) while (start > last && whiteSpace.test(text[start - 1]!)) start--;
      if (token.rstrip) while (end < text.length && whiteSpace.test(text[end]!)) end++;
      if (start > last) out.push({ text: text.slice(last, start) });
      out.push({ text: text.slice(start, end), id: token.id });
      last = end;
    }
    if (last < text.length) out.push({ text: text.slice(last) });
    return out;
  }
}

/** Whether a word character stands before (-1) or after (1) the index. */
function isWord(text: string, index: number, side: -1 | 1): boolean {
  if (side === 1) {
    const c = text.codePointAt(index);
    return c !== undefined && wordCharacter.test(String.fromCodePoint(c));
  }
  if (index === 0) return false;
  const low = text.charCodeAt(index - 1);
  const pair = low >= 0xdc00 && low <= 0xdfff && index > 1;
  return wordCharacter.test(pair ? text.slice(index - 2, index) : text[index - 1]!);
}
