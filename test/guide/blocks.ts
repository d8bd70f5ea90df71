/**
 * The code blocks of a guide. The word behind the language is a file: its first block makes it, a `diff` changes it, any other block is
 * appended. `sh` blocks are commands; a `text` block behind one is what they print.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../models/fixtures';

export interface Block {
  language: string;
  file: string | undefined;
  code: string;
}

export function blocksOf(page: string): Block[] {
  const text = readFileSync(join(root, page), 'utf8');
  return [...text.matchAll(/^```(\w+)(?: (\S+))?\n([^]*?)^```$/gm)].map(([, language, file, code]) => ({
    language: language!,
    file,
    code: code!,
  }));
}

/** A file's text with one more block. */
export function withBlock(text: string | undefined, { language, code }: Block): string {
  if (language !== 'diff') return (text ?? '') + code;
  return code.split(/^@@\n/m).reduce(applyHunk, text ?? '');
}

/** Lines with a space in front stand in the text already, in a row with those that `-` takes out. */
function applyHunk(text: string, hunk: string): string {
  const lines = hunk.replace(/\n$/, '').split('\n');
  const side = (drop: string): string =>
    lines
      .filter((l) => !l.startsWith(drop))
      .map((l) => `${l.slice(1)}\n`)
      .join('');
  const [before, after] = [side('+'), side('-')];
  const at = `\n${text}`.indexOf(`\n${before}`);
  if (at < 0) throw new Error(`Expected these lines in the file:\n${before}`);
  return text.slice(0, at) + after + text.slice(at + before.length);
}
