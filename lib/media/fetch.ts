/**
 * The one place that fetches media over the network. Every hop is checked: scheme, host, port, and every address that the
 * name resolves to; the checked address is the one dialled, so that a name cannot change its mind in between.
 */
import { Resolver } from 'node:dns/promises';
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import * as ipaddr from 'ipaddr.js';
import { OcelliError } from '../errors';
import { checkUrl, maxRemoteBytes, mediaTooLarge, notAllowed, type MediaPolicy } from './policy';

export interface FetchOptions extends MediaPolicy {
  signal?: AbortSignal;
  /** Milliseconds for everything; default 5,000. */
  timeout?: number;
  maxBytes?: number;
  maxRedirects?: number;
  /** Replaced by tests, which have neither DNS nor a public address. */
  network?: { resolve(host: string, signal: AbortSignal): Promise<string[]>; isPublic(address: string): boolean };
}

/** Public unicast only: not loopback, private, link-local, carrier NAT, NAT64, 6to4, Teredo, documentation or multicast. */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  return ipaddr.process(address).range() === 'unicast';
}

async function resolveHost(host: string, signal: AbortSignal): Promise<string[]> {
  const resolver = new Resolver({ timeout: 2000, tries: 2 });
  const cancel = (): void => resolver.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    const answers = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)]);
    return answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}

const publicNetwork = { resolve: resolveHost, isPublic: isPublicAddress };

function failed(what: string): OcelliError {
  return new OcelliError('ERR_MEDIA_FETCH', `Expected the media URL to answer with a picture but ${what}`);
}

/** The one address to dial, after all of them were checked. */
async function checkedAddress(
  url: URL,
  network: NonNullable<FetchOptions['network']>,
  signal: AbortSignal,
): Promise<string> {
  const literal = url.hostname.replace(/^\[|\]$/g, '');
  const addresses = isIP(literal) ? [literal] : await network.resolve(url.hostname, signal);
  signal.throwIfAborted();
  if (addresses.length === 0) throw failed('its host name does not resolve');
  if (!addresses.every((address) => network.isPublic(address)))
    throw notAllowed('Expected a media URL of a public address but received one of a private network');
  return addresses[0]!;
}

function open(url: URL, address: string, signal: AbortSignal): Promise<IncomingMessage> {
  const family = isIP(address);
  const lookup: LookupFunction = (_host, options, callback) =>
    options.all ? callback(null, [{ address, family }]) : callback(null, address, family);
  const options: RequestOptions = {
    method: 'GET',
    agent: false, // no kept connection, whose address nobody checked
    lookup,
    signal,
    headers: { accept: 'image/*', 'accept-encoding': 'identity', 'user-agent': 'ocelli' },
  };
  return new Promise((resolve, reject) => {
    const request =
      url.protocol === 'https:' ? httpsRequest(url, options, resolve) : httpRequest(url, options, resolve);
    request.on('error', reject);
    request.end();
  });
}

async function readBody(response: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  if (Number(response.headers['content-length'] ?? 0) > maxBytes) throw mediaTooLarge(maxBytes);
  const encoding = response.headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') throw failed('the answer is compressed');
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of response as AsyncIterable<Uint8Array>) {
    size += part.length;
    if (size > maxBytes) throw mediaTooLarge(maxBytes);
    parts.push(part);
  }
  if (!response.complete) throw failed('the answer was cut short');
  return Buffer.concat(parts, size);
}

async function follow(start: URL, options: FetchOptions, signal: AbortSignal): Promise<Uint8Array> {
  const network = options.network ?? publicNetwork;
  const maxRedirects = options.maxRedirects ?? 10;
  let url = start;
  for (let hop = 0; ; hop++) {
    checkUrl(url, options);
    const response = await open(url, await checkedAddress(url, network, signal), signal);
    try {
      const status = response.statusCode ?? 0;
      if (status === 200) return await readBody(response, options.maxBytes ?? maxRemoteBytes);
      const { location } = response.headers;
      if (![301, 302, 303, 307, 308].includes(status) || location === undefined)
        throw failed(`it answered with status ${status}`);
      if (hop === maxRedirects) throw failed(`it redirects more than ${maxRedirects} times`);
      if (!URL.canParse(location, url.href)) throw failed('it redirects to no valid URL');
      const next = new URL(location, url);
      if (url.protocol === 'https:' && next.protocol === 'http:')
        throw notAllowed('Expected redirects to stay with https but received one to http');
      url = next;
    } finally {
      response.destroy();
    }
  }
}

export async function fetchMedia(url: URL, options: FetchOptions): Promise<Uint8Array> {
  options.signal?.throwIfAborted();
  const timeout = options.timeout ?? 5000;
  const deadline = AbortSignal.timeout(timeout);
  const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline;
  try {
    return await follow(url, options, signal);
  } catch (e) {
    if (options.signal?.aborted) throw options.signal.reason;
    if (deadline.aborted)
      throw new OcelliError(
        'ERR_MEDIA_TIMEOUT',
        `Expected the media URL to answer within ${timeout} ms but it did not`,
      );
    if (OcelliError.is(e)) throw e;
    throw failed('the connection failed');
  }
}
