/** An output as bits: log-probabilities are compared as the numbers they are, not within a tolerance. */
import type { RequestOutput, TokenLogprob } from '../../dist/index';

const view = new DataView(new ArrayBuffer(8));

function hex(x: number): string {
  view.setFloat64(0, x);
  return view.getBigUint64(0).toString(16).padStart(16, '0');
}

function entry(map: ReadonlyMap<number, TokenLogprob> | null | undefined): string {
  return [...(map ?? [])].map(([id, { logprob, rank }]) => `${id}=${hex(logprob)}#${rank}`).join(' ');
}

export interface Bits {
  prompt: string[];
  /** Per output, per token. */
  outputs: string[][];
  /** Per output: why it ended, and its text. */
  ends: string[];
}

export function bitsOf({ promptLogprobs, outputs }: RequestOutput): Bits {
  return {
    prompt: (promptLogprobs ?? []).map(entry),
    outputs: outputs.map((o) => o.tokenIds.map((id, i) => `${id}: ${entry(o.logprobs?.[i])}`)),
    ends: outputs.map((o) => `${String(o.finishReason)} ${String(o.stopReason)} ${JSON.stringify(o.text)}`),
  };
}

/** The first place where the two differ, in words. @param cut the found one may end early: it was aborted */
export function difference(expected: Bits, found: Bits, cut = false): string | undefined {
  if (!cut) {
    const prompt = firstDifference(expected.prompt, found.prompt, false);
    if (prompt !== undefined) return `prompt token ${prompt}`;
    if (found.outputs.length !== expected.outputs.length)
      return `expected ${expected.outputs.length} outputs but received ${found.outputs.length}`;
  }
  for (const [i, tokens] of found.outputs.entries()) {
    const token = firstDifference(expected.outputs[i] ?? [], tokens, cut);
    if (token !== undefined) return `output ${i}, token ${token}`;
    if (!cut && expected.ends[i] !== found.ends[i])
      return `output ${i} ends: expected ${expected.ends[i]} but received ${found.ends[i]}`;
  }
  return undefined;
}

function firstDifference(expected: readonly string[], found: readonly string[], cut: boolean): string | undefined {
  const length = cut ? found.length : Math.max(expected.length, found.length);
  for (let i = 0; i < length; i++) {
    if (expected[i] !== found[i]) return `${i}: expected ${expected[i] ?? 'none'} but received ${found[i] ?? 'none'}`;
  }
  return undefined;
}
