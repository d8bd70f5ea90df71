/** From what the caller names to bytes or pixels, under the media policy. */
import { constants, type Stats } from 'node:fs';
import { open, realpath, stat } from 'node:fs/promises';
import { isAbsolute, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OcelliError } from '../errors';
import { fetchMedia } from './fetch';
import { maxLocalBytes, maxRemoteBytes, mediaTooLarge, notAllowed, type MediaPolicy } from './policy';
import { isTensor, type Tensor } from './tensor';
import { isRawImage, type ImageInput, type RawImage } from './types';

export interface LoadOptions extends MediaPolicy {
  signal?: AbortSignal;
}

export type LoadedMedia =
  { kind: 'encoded'; bytes: Uint8Array } | { kind: 'pixels'; image: RawImage } | { kind: 'tensor'; tensor: Tensor };

function noFile(path: string): OcelliError {
  return new OcelliError('ERR_MEDIA_NOT_FOUND', `Expected a picture file but received ${path}, which cannot be read`);
}

function inside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

const sameFile = (a: Stats, b: Stats): boolean => a.ino === b.ino && a.dev === b.dev;

/** Untrusted paths must lie in the allowed folder after every link is followed, before and after opening. */
async function allowedPath(path: string, policy: MediaPolicy): Promise<string> {
  if (policy.trusted !== false) return path;
  if (policy.allowedLocalMediaPath === undefined) {
    throw notAllowed(
      'Expected a data URL or an allowed URL for a picture in a message but received a local path',
      'Set allowedLocalMediaPath.',
    );
  }
  const outside = notAllowed('Expected a picture inside allowedLocalMediaPath but received another path');
  try {
    const root = await realpath(policy.allowedLocalMediaPath);
    const real = await realpath(path);
    if (inside(root, real)) return real;
  } catch {
    throw outside; // the same words: whether a file exists outside the folder is nobody's business
  }
  throw outside;
}

async function readFile(path: string, options: LoadOptions): Promise<Uint8Array> {
  const trusted = options.trusted !== false;
  const real = await allowedPath(path, options);
  const shown = trusted ? path : 'a path';
  let file;
  try {
    // Not blocking: a FIFO would hold a thread of libuv's pool until somebody writes to it.
    file = await open(real, constants.O_RDONLY | constants.O_NONBLOCK | (trusted ? 0 : constants.O_NOFOLLOW));
  } catch {
    throw noFile(shown);
  }
  try {
    const stats = await file.stat();
    if (!stats.isFile())
      throw new OcelliError('ERR_MEDIA_NOT_FOUND', `Expected a regular file for a picture but received ${shown}`);
    if (!trusted && !((await allowedPath(path, options)) === real && sameFile(stats, await stat(real))))
      throw noFile(shown);
    const limit = trusted ? maxLocalBytes : maxRemoteBytes;
    if (stats.size > limit) throw mediaTooLarge(limit);
    const bytes = Buffer.allocUnsafeSlow(stats.size);
    let size = 0;
    while (size < bytes.length) {
      options.signal?.throwIfAborted();
      const { bytesRead } = await file.read(bytes, size, bytes.length - size, size);
      if (bytesRead === 0) break; // it shrank: the decoder will say that it is cut short
      size += bytesRead;
    }
    return bytes.subarray(0, size);
  } finally {
    await file.close();
  }
}

function percentDecode(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'latin1');
  let size = 0;
  for (let i = 0; i < bytes.length; i++) {
    const value = bytes[i] === 0x25 ? Number.parseInt(text.slice(i + 1, i + 3), 16) : NaN;
    if (Number.isNaN(value)) bytes[size++] = bytes[i]!;
    else {
      bytes[size++] = value;
      i += 2;
    }
  }
  return bytes.subarray(0, size);
}

/** The bytes of a data URL; its media type is not believed. */
export function readDataUrl(url: string): Uint8Array {
  const comma = url.indexOf(',');
  if (comma < 0 || comma > 1024)
    throw new OcelliError(
      'ERR_MEDIA_INVALID',
      'Expected data:[type][;base64],... for a data URL but received no comma',
    );
  const base64 = /;\s*base64\s*$/i.test(url.slice(5, comma));
  if (url.length - comma > (maxRemoteBytes / 3) * 4 + 1024) throw mediaTooLarge(maxRemoteBytes);
  let text = url.slice(comma + 1);
  if (!base64) return percentDecode(text);
  if (text.includes('%')) text = Buffer.from(percentDecode(text)).toString('latin1');
  const bytes = Buffer.from(text, 'base64');
  // Buffer stops at or skips what is no base64: the length tells.
  const bare = /[\s]/.test(text) ? text.replace(/\s+/g, '') : text;
  const padding = bare.endsWith('==') ? 2 : bare.endsWith('=') ? 1 : 0;
  if (bytes.length !== Math.floor(((bare.length - padding) * 3) / 4)) {
    throw new OcelliError('ERR_MEDIA_INVALID', 'Expected base64 in a data URL but received other characters');
  }
  return bytes;
}

async function loadUrl(url: URL, options: LoadOptions): Promise<Uint8Array> {
  if (url.protocol === 'data:') return readDataUrl(url.href);
  if (url.protocol === 'http:' || url.protocol === 'https:') return fetchMedia(url, options);
  if (url.protocol !== 'file:')
    throw notAllowed(`Expected a file, data, http or https URL for a picture but received ${url.protocol}`);
  let path: string;
  try {
    path = fileURLToPath(url);
  } catch {
    throw new OcelliError(
      'ERR_MEDIA_INVALID',
      'Expected a file URL of this machine for a picture but received another',
    );
  }
  return readFile(path, options);
}

async function loadText(text: string, options: LoadOptions): Promise<Uint8Array> {
  if (/^data:/i.test(text)) return readDataUrl(text);
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text) || /^file:/i.test(text)) {
    if (!URL.canParse(text))
      throw new OcelliError('ERR_MEDIA_INVALID', 'Expected a valid URL for a picture but received a malformed one');
    return loadUrl(new URL(text), options);
  }
  if (text.includes('\0') || text === '') throw noFile('an empty or malformed path');
  return readFile(text, options);
}

function checkPixels(image: RawImage): RawImage {
  const { width, height, channels, data } = image;
  const whole = (n: number): boolean => Number.isSafeInteger(n) && n >= 1;
  if (!whole(width) || !whole(height) || ![1, 3, 4].includes(channels)) {
    throw new OcelliError(
      'ERR_IMAGE_SIZE',
      `Expected sides of at least 1 and 1, 3 or 4 channels for pixels but received ${width}x${height}x${channels}`,
    );
  }
  if (data.BYTES_PER_ELEMENT !== 1 || data.length !== width * height * channels) {
    throw new OcelliError(
      'ERR_IMAGE_SIZE',
      `Expected ${width * height * channels} bytes for ${width}x${height}x${channels} pixels but received ${data.byteLength}`,
    );
  }
  return image;
}

const isBlob = (value: unknown): value is Blob =>
  typeof value === 'object' &&
  value !== null &&
  typeof (value as Blob).arrayBuffer === 'function' &&
  typeof (value as Blob).size === 'number';

/** Loads any image input; encoded files come as bytes, not yet looked at. */
export async function loadMedia(input: ImageInput, options: LoadOptions = {}): Promise<LoadedMedia> {
  options.signal?.throwIfAborted();
  const encoded = (bytes: Uint8Array): LoadedMedia => ({ kind: 'encoded', bytes });
  if (typeof input === 'string') return encoded(await loadText(input, options));
  if (input instanceof URL || Object.prototype.toString.call(input) === '[object URL]')
    return encoded(await loadUrl(new URL(String(input)), options));
  if (ArrayBuffer.isView(input)) {
    const view = input as ArrayBufferView;
    return encoded(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
  }
  if (isRawImage(input)) return { kind: 'pixels', image: checkPixels(input) };
  if (isTensor(input)) return { kind: 'tensor', tensor: input };
  if (isBlob(input)) {
    if (input.size > maxLocalBytes) throw mediaTooLarge(maxLocalBytes);
    return encoded(new Uint8Array(await input.arrayBuffer()));
  }
  throw new OcelliError(
    'ERR_MEDIA_INVALID',
    `Expected a path, URL, bytes, Blob, pixels or tensor for a picture but received ${input === null ? 'null' : typeof input}`,
  );
}
