/** One output of a request as it grows: ids, text that never splits a character, stop strings, log-probabilities. */
import { DetokenizeStream } from '../tokenizer/stream';
import type { Tokenizer } from '../tokenizer';
import type { ResolvedSampling } from './sampling-params';
import type { CompletionOutput, FinishReason, TokenLogprob } from './types';

export interface SampledToken {
  token: number;
  logprob: number;
  rank: number;
  top: readonly { token: number; logprob: number; rank: number }[];
}

export class Completion {
  readonly tokenIds: number[] = [];
  text = '';
  cumulativeLogprob = 0;
  readonly logprobs?: Map<number, TokenLogprob>[];
  finishReason: FinishReason | null = null;
  stopReason: string | number | null = null;
  private readonly detokenizer?: DetokenizeStream;
  /** How much of text, ids and log-probabilities was handed out. */
  private given = { text: 0, ids: 0 };

  constructor(
    readonly index: number,
    private readonly sampling: ResolvedSampling,
    private readonly tokenizer: Tokenizer | undefined,
  ) {
    if (sampling.logprobs !== undefined) this.logprobs = [];
    if (tokenizer && sampling.detokenize) {
      this.detokenizer = new DetokenizeStream(tokenizer, { skipSpecialTokens: sampling.skipSpecialTokens });
    }
  }

  get finished(): boolean {
    return this.finishReason !== null;
  }

  /** @param ends true for the end-of-sequence or stop token: its text is no part of the answer unless stop strings are */
  accept(sampled: SampledToken, ends: boolean): void {
    this.tokenIds.push(sampled.token);
    this.cumulativeLogprob += sampled.logprob;
    this.logprobs?.push(logprobMap(sampled, this.tokenizer));
    if (!this.detokenizer || (ends && !this.sampling.includeStopStrInOutput)) return;
    this.append(this.detokenizer.push(sampled.token));
  }

  finish(reason: FinishReason, stopReason: string | number | null = null): void {
    if (this.finished) return;
    if (this.detokenizer) this.append(this.detokenizer.flush());
    // A stop string may have ended the text just now.
    if (this.finished) return;
    this.finishReason = reason;
    this.stopReason = stopReason;
  }

  private append(piece: string): void {
    if (piece === '') return;
    const { stop, minTokens, includeStopStrInOutput: included } = this.sampling;
    const before = this.text.length;
    this.text += piece;
    if (this.tokenIds.length < minTokens) return;
    let first: { at: number; stop: string } | undefined;
    for (const s of stop) {
      const at = this.text.indexOf(s, Math.max(0, before - s.length + 1));
      if (at >= 0 && (first === undefined || at < first.at)) first = { at, stop: s };
    }
    if (!first) return;
    this.text = this.text.slice(0, first.at + (included ? first.stop.length : 0));
    this.finishReason = 'stop';
    this.stopReason = first.stop;
  }

  /** Everything so far. */
  whole(): CompletionOutput {
    return this.part(this.text, this.tokenIds, this.logprobs);
  }

  /** What is new since the last call. Text that may be the beginning of a stop string is held back. */
  takeDelta(): CompletionOutput {
    const end = this.finished ? this.text.length : this.text.length - this.heldBack();
    const { text, ids } = this.given;
    this.given = { text: Math.max(text, end), ids: this.tokenIds.length };
    return this.part(this.text.slice(text, Math.max(text, end)), this.tokenIds.slice(ids), this.logprobs?.slice(ids));
  }

  /** Length of the longest end of the text that begins a stop string. */
  private heldBack(): number {
    let held = 0;
    for (const s of this.sampling.stop) {
      for (let n = Math.min(s.length - 1, this.text.length); n > held; n--) {
        if (this.text.endsWith(s.slice(0, n))) held = n;
      }
    }
    return held;
  }

  private part(text: string, tokenIds: number[], logprobs?: Map<number, TokenLogprob>[]): CompletionOutput {
    return {
      index: this.index,
      text,
      tokenIds: [...tokenIds],
      cumulativeLogprob: this.cumulativeLogprob,
      ...(logprobs ? { logprobs: [...logprobs] } : {}),
      finishReason: this.finishReason,
      stopReason: this.stopReason,
    };
  }
}

/** The likeliest tokens in order; the token itself last where it is none of them. */
export function logprobMap(sampled: SampledToken, tokenizer: Tokenizer | undefined): Map<number, TokenLogprob> {
  const map = new Map<number, TokenLogprob>();
  for (const { token, logprob, rank } of [...sampled.top, sampled]) {
    if (map.has(token)) continue;
    const decodedToken = tokenizer?.decode([token], { skipSpecialTokens: false }) ?? '';
    map.set(token, { logprob, rank, decodedToken });
  }
  return map;
}
