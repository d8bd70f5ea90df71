/** One answer of the chat command: streamed to a terminal as it comes, or whole. */
import type { LLM, Message, RequestOutput, SamplingOptions } from '../index';
import { stoppable } from './outcome';
import { faint, note, print, seconds, StatusLine } from './terminal';

/** What `chat --json` prints. */
export interface Answer {
  text: string;
  tokenIds: number[];
  finishReason: string | null;
  usage: RequestOutput['usage'];
  /** Milliseconds, from the question on; decoding the pictures included. */
  timing: { firstTokenMs: number | null; totalMs: number; tokensPerSecond: number | null };
}

/** A model that was not trained on conversations (PaliGemma) is given the question as it stands. */
const questionAlone =
  '{% set content = messages[-1].content %}{% if content is string %}{{ content }}{% else %}' +
  "{% for part in content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endif %}";

/** @param stream print the text as it comes */
export async function answer(
  llm: LLM,
  messages: readonly Message[],
  sampling: SamplingOptions,
  stream: boolean,
): Promise<Answer> {
  const started = performance.now();
  const status = new StatusLine();
  const visible = stream && process.stdout.isTTY === true;
  let first: number | undefined;
  let tokens = 0;
  let text = '';
  status.show(messages.length > 1 ? 'reading the conversation' : 'reading the question');
  const templated = llm.tokenizer.hasChatTemplate || llm.modelConfig.options.chatTemplate !== undefined;
  const parts = llm.chatStream(messages, sampling, templated ? {} : { chatTemplate: questionAlone });
  try {
    const result = await stoppable(
      () => parts.abort(),
      async () => {
        for await (const part of parts) {
          const output = part.outputs[0];
          if (!output) continue;
          tokens += output.tokenIds.length;
          if (tokens > 0) first ??= performance.now() - started;
          // Where a prompt ends with a colon, an answer begins with a space.
          const more = text === '' ? output.text.trimStart() : output.text;
          text += more;
          if (!visible) status.show(`${tokens} tokens`);
          else if (more !== '') status.clear();
          if (stream) print(more);
        }
        return parts.result;
      },
    );
    const total = performance.now() - started;
    const output = result.outputs[0];
    return {
      text,
      tokenIds: output?.tokenIds ?? [],
      finishReason: output?.finishReason ?? null,
      usage: result.usage,
      timing: {
        firstTokenMs: first === undefined ? null : round(first),
        totalMs: round(total),
        tokensPerSecond: first === undefined || tokens < 2 ? null : round(((tokens - 1) * 1000) / (total - first)),
      },
    };
  } finally {
    status.clear();
    if (stream && text !== '' && !text.endsWith('\n')) print('\n');
  }
}

/** A faint line under the answer, for people only. */
export function noteTiming({ usage, timing, finishReason }: Answer): void {
  if (!process.stderr.isTTY) return;
  const { promptTokens, imageTokens, completionTokens } = usage;
  const read = `${promptTokens} tokens read${imageTokens > 0 ? ` (${imageTokens} of pictures)` : ''}`;
  const speed = timing.tokensPerSecond === null ? '' : `, ${timing.tokensPerSecond.toFixed(0)} a second`;
  const first = timing.firstTokenMs === null ? '' : `, the first after ${seconds(timing.firstTokenMs)}`;
  const end = finishReason === 'abort' ? '; stopped' : finishReason === 'length' ? '; cut at the limit' : '';
  note(faint(`${read}, ${completionTokens} written${first}${speed}${end}`));
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}
