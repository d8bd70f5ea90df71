/** Which arguments are pictures and which one is the question. */
import { stat } from 'node:fs/promises';
import { OcelliError } from '../errors';
import type { ContentPart, Message } from '../index';
import { loadMedia } from '../media/load';
import { UsageError } from './outcome';

const pictureUrl = /^(https?:\/\/|data:|file:)/i;
const pictureName = /\.(png|jpe?g|jfif|webp|gif|bmp|dib|tiff?|avif|heic|heif|svg|ppm|pgm|ico)$/i;
/** A leading ./ ../ ~/ / or C:\, or a separator in a single word. */
const pathShape = /^(\.{1,2}|~)?[\\/]|^[a-z]:[\\/]|^\S*[^\s\\/][\\/][^\s\\/]\S*$/i;

/** True for what nobody would ask as a question: a mistyped path must not become one. */
export function looksLikePath(argument: string): boolean {
  return pictureUrl.test(argument) || pictureName.test(argument) || pathShape.test(argument);
}

export interface Asked {
  /** Paths and URLs in order. */
  pictures: string[];
  question?: string;
}

/** [IMAGE...] [QUESTION]: what exists or looks like a path is a picture; what remains must be one text, the last argument. */
export async function sortArguments(args: readonly string[], more: readonly string[] = []): Promise<Asked> {
  const pictures: string[] = [];
  let question: string | undefined;
  for (const argument of args) {
    if (await isPicture(argument)) {
      if (question !== undefined)
        throw new UsageError(`Expected the question as the last argument but '${argument}' comes after it`);
      pictures.push(argument);
    } else if (question === undefined) question = argument;
    else
      throw new UsageError(
        `Expected one question but received '${question}' and '${argument}'; put the question in quotes`,
      );
  }
  for (const name of more) await checkPicture(name);
  pictures.push(...more);
  if (question !== undefined && question.trim() === '') throw new UsageError('Expected a question but it is empty');
  return { pictures, ...(question === undefined ? {} : { question }) };
}

async function isPicture(argument: string): Promise<boolean> {
  if (pictureUrl.test(argument)) return true;
  const found = await stat(argument).catch(() => undefined);
  if (found?.isFile()) return true;
  if (!looksLikePath(argument)) return false;
  await checkPicture(argument);
  return true;
}

/** ERR_MEDIA_NOT_FOUND before a model is loaded. */
export async function checkPicture(name: string): Promise<void> {
  if (pictureUrl.test(name)) return;
  const found = await stat(name).catch(() => undefined);
  if (found?.isFile()) return;
  throw new OcelliError(
    'ERR_MEDIA_NOT_FOUND',
    `Expected a picture file for '${name}' but ${found ? 'it is not a regular file' : 'there is none'}`,
    { hint: 'Check the path; a question is put in quotes and ends with a question mark.' },
  );
}

/** The bytes of a picture. Who types a URL into a command allows its host. */
export async function readPicture(name: string, signal?: AbortSignal): Promise<Uint8Array> {
  const allowed = /^https?:/i.test(name) && URL.canParse(name) ? [new URL(name).host] : [];
  const media = await loadMedia(name, { allowedMediaDomains: allowed, ...(signal ? { signal } : {}) });
  if (media.kind !== 'encoded')
    throw new OcelliError('ERR_MEDIA_INVALID', `Expected an encoded picture for '${name}' but received ${media.kind}`);
  return media.bytes;
}

/** A question with its pictures before it. */
export async function userMessage(question: string, pictures: readonly string[]): Promise<Message> {
  const images = await Promise.all(pictures.map((name) => readPicture(name)));
  const parts: ContentPart[] = images.map((image) => ({ type: 'image', image }));
  return { role: 'user', content: parts.length === 0 ? question : [...parts, { type: 'text', text: question }] };
}
