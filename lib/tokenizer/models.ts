/** Unigram and WordPiece. */
import { OcelliError } from '../errors';
import type { Model } from './bpe';

type Json = Record<string, unknown>;

/** The likeliest segmentation (Kudo, 2018), by Viterbi over characters. */
export class Unigram implements Model {
  private readonly scores = new Map<string, { id: number; score: number }>();
  private readonly unk: number | undefined;
  private readonly unkScore: number;
  private readonly longest: number;
  private readonly byteIds: (number | undefined)[] = [];
  private readonly byteFallback: boolean;

  constructor(json: Json, reserved: ReadonlySet<number>) {
    const vocab = json.vocab as [string, number][];
    this.unk = typeof json.unk_id === 'number' ? json.unk_id : undefined;
    let least = Infinity;
    let longest = 1;
    vocab.forEach(([token, score], id) => {
      least = Math.min(least, score);
      if (reserved.has(id) || id === this.unk) return;
      this.scores.set(token, { id, score });
      longest = Math.max(longest, token.length);
    });
    this.longest = longest;
    this.unkScore = least - 10;
    this.byteFallback = json.byte_fallback === true;
    for (let b = 0; b < 256; b++)
      this.byteIds.push(vocab.findIndex(([t]) => t === `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`));
  }

  encode(piece: string): number[] {
    const n = piece.length;
    const best = new Float64Array(n + 1).fill(-Infinity);
    const from = new Int32Array(n + 1).fill(-1);
    const idAt = new Int32Array(n + 1).fill(-1);
    best[0] = 0;
    for (let start = 0; start < n;) {
      const width = piece.codePointAt(start)! > 0xffff ? 2 : 1;
      let single = false;
      for (let end = start + width; end <= n && end - start <= this.longest; end++) {
        const found = this.scores.get(piece.slice(start, end));
        if (!found) continue;
        if (end - start === width) single = true;
        const score = best[start]! + found.score;
        if (score > best[end]! || from[end]! < 0) {
          best[end] = score;
          from[end] = start;
          idAt[end] = found.id;
        }
      }
      if (!single) {
        const end = start + width;
        const score = best[start]! + this.unkScore;
        if (score > best[end]! || from[end]! < 0) {
          best[end] = score;
          from[end] = start;
          idAt[end] = -1;
        }
      }
      start += width;
    }
    const segments: { id: number; text: string }[] = [];
    for (let end = n; end > 0; end = from[end]!) {
      const text = piece.slice(from[end]!, end);
      const previous = segments.at(-1);
      // Neighbouring unknown characters are one unknown token.
      if (idAt[end] === -1 && previous?.id === -1) previous.text = text + previous.text;
      else segments.push({ id: idAt[end]!, text });
    }
    return segments.reverse().flatMap(({ id, text }) => (id >= 0 ? [id] : this.unknown(text)));
  }

  private unknown(text: string): number[] {
    if (this.byteFallback) {
      const bytes = [...Buffer.from(text, 'utf8')].map((b) => this.byteIds[b] ?? -1);
      if (bytes.every((b) => b >= 0)) return bytes;
    }
    if (this.unk === undefined)
      throw new OcelliError(
        'ERR_TOKENIZER',
        `Expected an unk_id in tokenizer.json: ${JSON.stringify(text)} is not in the vocabulary`,
      );
    return [this.unk];
  }
}

/** Greedy longest match first, word by word (BERT). */
export class WordPiece implements Model {
  private readonly unk: number;
  private readonly prefix: string;
  private readonly longestWord: number;

  constructor(
    json: Json,
    private readonly vocab: ReadonlyMap<string, number>,
  ) {
    const unk = vocab.get(String(json.unk_token));
    if (unk === undefined)
      throw new OcelliError('ERR_TOKENIZER', `Expected model.unk_token '${String(json.unk_token)}' in the vocabulary`);
    this.unk = unk;
    this.prefix = typeof json.continuing_subword_prefix === 'string' ? json.continuing_subword_prefix : '##';
    this.longestWord = typeof json.max_input_chars_per_word === 'number' ? json.max_input_chars_per_word : 100;
  }

  encode(piece: string): number[] {
    const chars = Array.from(piece);
    if (chars.length > this.longestWord) return [this.unk];
    const ids: number[] = [];
    for (let start = 0; start < chars.length;) {
      let end = chars.length;
      let id: number | undefined;
      for (; end > start; end--) {
        id = this.vocab.get((start > 0 ? this.prefix : '') + chars.slice(start, end).join(''));
        if (id !== undefined) break;
      }
      if (id === undefined) return [this.unk];
      ids.push(id);
      start = end;
    }
    return ids;
  }
}
