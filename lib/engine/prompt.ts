/** Prompts and messages to token ids, before any picture is looked at. */
import { OcelliError } from '../errors';
import { kindOf } from '../config/json-file';
import { isTensor } from '../media/tensor';
import type { MultiModalData } from '../multimodal';
import type { Segment, Tokenizer } from '../tokenizer';
import { noTokenizer } from './submission';
import type { ChatOptions, ContentPart, Media, Message, Prompt } from './types';

export interface TokenizedPrompt {
  promptTokenIds: readonly number[];
  prompt?: string;
  /** The same in parts: special tokens and the text between them. */
  segments?: readonly Segment[];
  multiModalData?: MultiModalData;
  mmProcessorKwargs?: Record<string, unknown>;
  /** False: pictures came in messages; local paths need allowedLocalMediaPath. */
  trusted: boolean;
}

const known = new Set(['prompt', 'promptTokenIds', 'multiModalData', 'mmProcessorKwargs']);

export function tokenizePrompt(tokenizer: Tokenizer | undefined, prompt: Prompt): TokenizedPrompt {
  if (typeof prompt === 'string') return fromText(tokenizer, prompt, {});
  if (Array.isArray(prompt)) return fromIds(prompt as readonly unknown[], {});
  if (typeof prompt !== 'object' || prompt === null) throw badPrompt(prompt);
  const { prompt: text, promptTokenIds: ids } = prompt as { prompt?: unknown; promptTokenIds?: unknown };
  const stray = Object.keys(prompt).find((key) => !known.has(key));
  if (stray !== undefined) {
    throw new OcelliError('ERR_UNKNOWN_OPTION', `Expected a known name in the prompt but received '${stray}'`, {
      hint: `Known: ${[...known].join(', ')}.`,
      details: { option: stray },
    });
  }
  if (typeof text === 'string' && ids === undefined) return fromText(tokenizer, text, prompt as Media);
  if (Array.isArray(ids) && text === undefined) return fromIds(ids, prompt as Media);
  throw badPrompt(prompt);
}

function fromText(tokenizer: Tokenizer | undefined, prompt: string, media: Media): TokenizedPrompt {
  if (!tokenizer) throw noTokenizer('a text prompt');
  const segments = tokenizer.segments(prompt, { addSpecialTokens: !tokenizer.spellsBos(prompt) });
  return { promptTokenIds: tokenizer.encodeSegments(segments), prompt, segments, ...mediaOf(media), trusted: true };
}

function fromIds(ids: readonly unknown[], media: Media): TokenizedPrompt {
  const bad = ids.findIndex((id) => !Number.isSafeInteger(id) || (id as number) < 0 || (id as number) >= 2 ** 31);
  if (bad >= 0) {
    throw new OcelliError(
      'ERR_PROMPT',
      `Expected token ids for the prompt but received ${kindOf(ids[bad])} at ${bad}`,
      {
        details: { position: bad },
      },
    );
  }
  return { promptTokenIds: ids as readonly number[], ...mediaOf(media), trusted: true };
}

function mediaOf({ multiModalData, mmProcessorKwargs }: Media): Media {
  for (const [name, value] of Object.entries({ multiModalData, mmProcessorKwargs })) {
    if (value === undefined || (typeof value === 'object' && value !== null && !Array.isArray(value))) continue;
    throw new OcelliError('ERR_PROMPT', `Expected an object for ${name} but received ${kindOf(value)}`);
  }
  return {
    ...(multiModalData === undefined ? {} : { multiModalData }),
    ...(mmProcessorKwargs === undefined ? {} : { mmProcessorKwargs }),
  };
}

function badPrompt(prompt: unknown): OcelliError {
  return new OcelliError(
    'ERR_PROMPT',
    `Expected a text, token ids, { prompt } or { promptTokenIds } for the prompt but received ${kindOf(prompt) ?? typeof prompt}`,
  );
}

/**
 * @param placeholders modality -> how its placeholder token is spelled, for templates that take no content parts
 * @param addSpecialTokens where the template leaves them to the processor of pictures
 */
export async function tokenizeMessages(
  tokenizer: Tokenizer | undefined,
  messages: readonly Message[],
  options: ChatOptions,
  placeholders: Readonly<Record<string, string>>,
  addSpecialTokens: boolean,
): Promise<TokenizedPrompt> {
  if (!tokenizer) throw noTokenizer('messages');
  const items: Items = {};
  const rendered = checkMessages(messages).map(({ role, content, ...rest }) => ({
    ...rest,
    role,
    content: typeof content === 'string' ? content : content.map((part) => templatePart(part, items)),
  }));
  const { chatTemplate, addGenerationPrompt, tools, templateVariables: variables, mmProcessorKwargs } = options;
  const { ids, text, segments } = await tokenizer.renderChat(
    rendered,
    {
      ...(chatTemplate === undefined ? {} : { chatTemplate }),
      ...(addGenerationPrompt === undefined ? {} : { addGenerationPrompt }),
      ...(tools === undefined ? {} : { tools }),
      ...(variables === undefined ? {} : { variables }),
    },
    placeholders,
    addSpecialTokens,
  );
  return {
    promptTokenIds: ids,
    prompt: text,
    segments,
    ...mediaOf({
      ...(Object.keys(items).length > 0 ? { multiModalData: items as MultiModalData } : {}),
      ...(mmProcessorKwargs === undefined ? {} : { mmProcessorKwargs }),
    }),
    trusted: false,
  };
}

function checkMessages(messages: readonly Message[]): readonly Message[] {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new OcelliError('ERR_MESSAGES', `Expected a list of at least one message but received ${kindOf(messages)}`);
  for (const [i, message] of (messages as readonly unknown[]).entries()) {
    const { role, content } = (message ?? {}) as Partial<Message>;
    if (typeof role === 'string' && (typeof content === 'string' || Array.isArray(content))) continue;
    throw new OcelliError(
      'ERR_MESSAGES',
      `Expected { role, content } with a text or a list of parts for message ${i} but received ${kindOf(message)}`,
      { details: { index: i } },
    );
  }
  return messages;
}

/** Of messages, by modality. */
type Items = Partial<Record<'image' | 'video', unknown[]>>;

/** What the template sees of a part; the picture or video itself goes to `items`. */
function templatePart(
  part: ContentPart,
  items: Items,
): { type: 'text'; text: string } | { type: 'image' } | { type: 'video' } {
  const take = (modality: 'image' | 'video', item: unknown): { type: 'image' | 'video' } => {
    (items[modality] ??= []).push(item);
    return { type: modality };
  };
  switch (part?.type) {
    case 'text':
      if (typeof part.text === 'string') return { type: 'text', text: part.text };
      break;
    case 'image':
      if (part.image !== undefined && part.image !== null) return take('image', part.image);
      break;
    case 'video':
      if (Array.isArray(part.video)) return take('video', part.video);
      if (isTensor(part.video)) return take('video', [part.video]);
      break;
    case 'image_url':
      if (typeof part.image_url?.url === 'string') return take('image', part.image_url.url);
      break;
  }
  throw new OcelliError(
    'ERR_MESSAGES',
    `Expected { type: 'text', text }, { type: 'image', image }, { type: 'image_url', image_url: { url } } or { type: 'video', video: [frames] } for a part of a message but received ${JSON.stringify((part as { type?: unknown } | null)?.type) ?? 'nothing'}`,
  );
}
