/** Text of a growing list of ids, piece by piece, never half a character (tokenizers, DecodeStream). */

interface Decodes {
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
}

/**
 * Each push decodes a short window: from the last piece's beginning, since decoders look at neighbours (spaces, bytes). Text that
 * ends in U+FFFD may be half a character and is held back.
 */
export class DetokenizeStream {
  private ids: number[] = [];
  private prefix = '';
  private prefixLength = 0;
  private readonly all: number[] = [];
  private emitted = '';

  constructor(
    private readonly tokenizer: Decodes,
    private readonly options: { skipSpecialTokens?: boolean } = {},
  ) {}

  /** The text that this id adds; '' when nothing is certain yet. */
  push(id: number): string {
    this.all.push(id);
    this.ids.push(id);
    const text = this.tokenizer.decode(this.ids, this.options);
    if (text.length <= this.prefix.length || text.endsWith('\ufffd')) return '';
    const piece = text.startsWith(this.prefix)
      ? text.slice(this.prefix.length)
      : text.slice(commonPrefix(text, this.prefix));
    this.ids = this.ids.slice(this.prefixLength);
    this.prefix = this.tokenizer.decode(this.ids, this.options);
    this.prefixLength = this.ids.length;
    this.emitted += piece;
    return piece;
  }

  /** What the whole has beyond the pieces: a character that never became whole, as U+FFFD. */
  flush(): string {
    if (this.ids.length === this.prefixLength) return '';
    const whole = this.tokenizer.decode(this.all, this.options);
    if (!whole.startsWith(this.emitted)) return '';
    const rest = whole.slice(this.emitted.length);
    this.emitted = whole;
    this.prefixLength = this.ids.length;
    return rest;
  }
}

function commonPrefix(a: string, b: string): number {
  let n = 0;
  while (n < a.length && n < b.length && a[n] === b[n]) n++;
  return n;
}
