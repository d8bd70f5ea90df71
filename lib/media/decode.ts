import { OcelliError } from '../errors';
import type { ImageInput, RawImage } from './types';
import { isRawImage } from './types';

export interface DecodeOptions {
  allowedLocalMediaPath?: string;
  allowedMediaDomains?: readonly string[];
  trusted?: boolean;
  signal?: AbortSignal;
}

/** RGB pixels of a picture. */
export function decodeImage(input: ImageInput, _options?: DecodeOptions): Promise<RawImage> {
  if (isRawImage(input) && input.channels === 3) return Promise.resolve(input);
  return Promise.reject(new OcelliError('ERR_IMAGE_FORMAT', 'Expected RGB pixels for the picture'));
}
