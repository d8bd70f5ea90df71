/** Text of messages on its way into a template: untrusted spellings broken, parts flattened for templates that read plain text. */
import { OcelliError } from '../errors';
import { renderTemplate, type TemplateMessage } from './chat-template';

const probe = 'ocelli probe';
const known = new Map<string, Promise<Takes>>();
const maxKnown = 64;

/** What a template takes as a message's content; one that takes neither is told so by its own error. */
export interface Takes {
  parts: boolean;
  text: boolean;
}

/** One rendering of each tells: its text is there, and no list was written as a string, which shows its keys. */
export function templateTakes(template: string, tokens: Readonly<Record<string, unknown>>): Promise<Takes> {
  const found = known.get(template);
  if (found) return found;
  const takes = (content: unknown): Promise<boolean> =>
    renderTemplate(template, [{ role: 'user', content }], tokens, {}).then(
      (text) => text.includes(probe) && !/["']?type["']?\s*:/.test(text) && !text.includes('[object'),
      () => false,
    );
  const answer = Promise.all([takes([{ type: 'text', text: probe }]), takes(probe)]).then(([parts, text]): Takes => ({
    parts,
    text,
  }));
  if (known.size >= maxKnown) known.delete(known.keys().next().value!);
  known.set(template, answer);
  return answer;
}

/** A text as the one part of its message, for templates that take parts only. */
export function messageOfParts(message: TemplateMessage): TemplateMessage {
  if (typeof message.content !== 'string') return message;
  return { ...message, content: [{ type: 'text', text: message.content }] };
}

/**
 * Content parts as one string: a line for each item, then the texts (vLLM v0.6.3, vllm/entrypoints/chat_utils.py).
 * @param item what stands for an item of a modality
 */
export function flatMessage(message: TemplateMessage, item: (modality: string) => string): TemplateMessage {
  if (!Array.isArray(message.content)) return message;
  const parts = message.content as readonly { type: string; text?: string }[];
  const items = parts.filter((p) => p.type !== 'text').map((p) => item(p.type));
  const texts = parts.filter((p) => p.type === 'text').map((p) => p.text ?? '');
  return { ...message, content: [...items, ...texts].join('\n') };
}

/** A private-use character that the text does not hold. */
export function unusedCharacter(text: string): string {
  for (let c = 0xe000; c < 0xf8ff; c++) {
    const character = String.fromCharCode(c);
    if (!text.includes(character)) return character;
  }
  throw new OcelliError('ERR_CHAT_TEMPLATE', 'Expected a private-use character that the messages do not hold');
}

/** The message with `marker` inside each spelling of a token. */
export function breakSpellings<T>(value: T, contents: readonly string[], marker: string): T {
  if (typeof value === 'string') {
    let text: string = value;
    for (const content of contents) {
      // After the first character; overlapping spellings are found again, since the marker splits them all.
      const head = String.fromCodePoint(content.codePointAt(0)!);
      text = text.replaceAll(content, `${head}${marker}${content.slice(head.length)}`);
    }
    return text as T;
  }
  if (Array.isArray(value)) return value.map((v: unknown) => breakSpellings(v, contents, marker)) as T;
  if (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype) {
    return Object.fromEntries(
      Object.entries(value).map(([k, v]) => [
        k,
        k === 'type' || k === 'role' ? (v as unknown) : breakSpellings(v as unknown, contents, marker),
      ]),
    ) as T;
  }
  return value;
}
