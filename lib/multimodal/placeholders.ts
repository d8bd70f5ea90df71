/** Placeholder expansion (vLLM v0.6.3, vllm/multimodal/utils.py, repeat_and_pad_placeholder_tokens). */

/** What the helper needs of a tokenizer. */
export interface PlaceholderTokenizer {
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
}

export interface PlaceholderOptions {
  placeholderTokenId: number;
  /** A number expands the first placeholder only; a list the nth by its nth entry. */
  repeatCount: number | readonly number[];
  padTokenLeft?: number;
  padTokenRight?: number;
}

/**
 * Repeats each placeholder as many times as its item has features, between optional pad tokens. Placeholders beyond the counts
 * stay single; counts beyond the placeholders are dropped, with a warning where there is a text prompt.
 * @param tokenizer spells the placeholder in the text; without one, or without a text, only ids are expanded
 * @returns the expanded text (undefined where it was not expanded) and the expanded ids
 */
export function repeatAndPadPlaceholderTokens(
  tokenizer: PlaceholderTokenizer | undefined,
  prompt: string | undefined | null,
  promptTokenIds: readonly number[],
  { placeholderTokenId, repeatCount, padTokenLeft, padTokenRight }: PlaceholderOptions,
): [prompt: string | undefined, promptTokenIds: number[]] {
  let counts = typeof repeatCount === 'number' ? [repeatCount] : [...repeatCount];
  let newPrompt: string | undefined;
  if (tokenizer && prompt !== undefined && prompt !== null) {
    const placeholder = tokenizer.decode([placeholderTokenId], { skipSpecialTokens: false });
    const left = padTokenLeft === undefined ? '' : tokenizer.decode([padTokenLeft], { skipSpecialTokens: false });
    const right = padTokenRight === undefined ? '' : tokenizer.decode([padTokenRight], { skipSpecialTokens: false });
    const parts = placeholder === '' ? [prompt] : prompt.split(placeholder);
    const found = parts.length - 1;
    if (found > 16) {
      process.emitWarning(
        `The prompt has ${found} placeholders '${placeholder}'; make sure that they were not repeated already: one stands for one item`,
        {
          code: 'WARN_PLACEHOLDERS',
          type: 'OcelliWarning',
        },
      );
    }
    if (found < counts.length) {
      process.emitWarning(
        `The prompt has ${found} placeholders for ${counts.length} items; the items beyond are ignored`,
        {
          code: 'WARN_PLACEHOLDERS',
          type: 'OcelliWarning',
        },
      );
      counts = counts.slice(0, found);
    }
    newPrompt = parts
      .map((part, i) => {
        const count = counts[i];
        if (i === found) return part;
        return part + (count === undefined ? placeholder : left + placeholder.repeat(count) + right);
      })
      .join('');
  }
  const ids: number[] = [];
  let next = 0;
  for (const id of promptTokenIds) {
    const count = id === placeholderTokenId ? counts[next] : undefined;
    if (count === undefined) {
      ids.push(id);
      continue;
    }
    next++;
    if (padTokenLeft !== undefined) ids.push(padTokenLeft);
    for (let i = 0; i < count; i++) ids.push(placeholderTokenId);
    if (padTokenRight !== undefined) ids.push(padTokenRight);
  }
  return [newPrompt, ids];
}
