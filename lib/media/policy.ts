/** What media may be loaded from where. */
import { OcelliError } from '../errors';

export interface MediaPolicy {
  /** Folder that local files must lie in where the input is not trusted. */
  allowedLocalMediaPath?: string;
  /** Hosts that pictures may be fetched from, `host` or `host:port`; '*' allows every public host. Without it nothing is fetched. */
  allowedMediaDomains?: readonly string[];
  /** False for what came in a message: local paths then need allowedLocalMediaPath. Default true. */
  trusted?: boolean;
}

/** Bytes of one item that came over the network or in a message. */
export const maxRemoteBytes = 20 * 1024 * 1024;
/** Bytes of one file that the program itself named. */
export const maxLocalBytes = 256 * 1024 * 1024;

export function notAllowed(message: string, hint?: string): OcelliError {
  return new OcelliError('ERR_MEDIA_NOT_ALLOWED', message, hint === undefined ? {} : { hint });
}

export function mediaTooLarge(limit: number): OcelliError {
  return new OcelliError('ERR_MEDIA_TOO_LARGE', `Expected at most ${limit} bytes for one media item but received more`);
}

/** Checks scheme, credentials, host and port of one hop; the URL is parsed once, and the same object is dialled. */
export function checkUrl(url: URL, policy: MediaPolicy): void {
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw notAllowed(`Expected an http or https URL for media but received ${url.protocol}`);
  if (url.username !== '' || url.password !== '')
    throw notAllowed('Expected a media URL without credentials but received one with them');
  const allowed = policy.allowedMediaDomains ?? [];
  const host = url.hostname.toLowerCase().replace(/\.$/, '');
  const port = url.port;
  const matches = allowed.some((entry) => {
    const wanted = entry.toLowerCase();
    if (wanted === '*') return port === '';
    return port === '' ? wanted === host : wanted === `${host}:${port}`;
  });
  if (matches) return;
  if (allowed.length === 0) {
    throw notAllowed(
      'Expected a local picture but received a URL, and fetching is off',
      'List the host in allowedMediaDomains.',
    );
  }
  throw notAllowed(
    `Expected a media URL of an allowed host but received ${url.host}`,
    'List the host (and a port other than 80 or 443) in allowedMediaDomains.',
  );
}
