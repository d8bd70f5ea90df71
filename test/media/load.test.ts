import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { decodeImage } from '../../dist/media';
import { fetchMedia, isPublicAddress, type FetchOptions } from '../../dist/media/fetch';
import { hashImage, rememberFile } from '../../dist/media/hash';
import { codeOf, fixtures } from './pictures';

const path = join(fixtures, 'images', 'png_rgb.png');
const bytes = readFileSync(path);

describe('inputs', () => {
  const dataUrl = `data:image/png;base64,${bytes.toString('base64')}`;
  test.each<[string, Parameters<typeof decodeImage>[0]]>([
    ['a path', path],
    ['a file URL', pathToFileURL(path)],
    ['a file URL as text', pathToFileURL(path).href],
    ['a data URL', dataUrl],
    ['a data URL object', new URL(dataUrl)],
    ['a data URL with a wrong type', dataUrl.replace('image/png', 'text/plain;charset=x')],
    ['a percent-encoded data URL', `data:,${[...bytes].map((b) => `%${b.toString(16).padStart(2, '0')}`).join('')}`],
    ['bytes', bytes],
    ['a Blob', new Blob([bytes])],
  ])('%s', async (_, input) => {
    const image = await decodeImage(input);
    expect([image.width, image.height]).toEqual([53, 41]);
  });

  test.each<[string, unknown, string]>([
    ['a missing file', '/nowhere/at/all.png', 'ERR_MEDIA_NOT_FOUND'],
    ['a folder', tmpdir(), 'ERR_MEDIA_NOT_FOUND'],
    ['an empty path', '', 'ERR_MEDIA_NOT_FOUND'],
    ['a path with a zero', 'a\0.png', 'ERR_MEDIA_NOT_FOUND'],
    ['a data URL without data', 'data:image/png;base64', 'ERR_MEDIA_INVALID'],
    ['a data URL that is no base64', 'data:image/png;base64,*&^%$', 'ERR_MEDIA_INVALID'],
    ['an empty data URL', 'data:,', 'ERR_IMAGE_EMPTY'],
    ['another scheme', 'ftp://example.org/a.png', 'ERR_MEDIA_NOT_ALLOWED'],
    ['a remote file URL', 'file://host/share/a.png', 'ERR_MEDIA_INVALID'],
    ['a remote URL', 'https://example.org/a.png', 'ERR_MEDIA_NOT_ALLOWED'],
    ['a number', 5, 'ERR_MEDIA_INVALID'],
    ['null', null, 'ERR_MEDIA_INVALID'],
  ])('%s is refused', async (_, input, code) => {
    expect(await codeOf(decodeImage(input as string))).toBe(code);
  });

  test('a FIFO is refused at once', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'media-'));
    try {
      execFileSync('mkfifo', [join(folder, 'pipe.png')]);
      expect(await codeOf(decodeImage(join(folder, 'pipe.png')))).toBe('ERR_MEDIA_NOT_FOUND');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('paths in messages', () => {
  const folder = mkdtempSync(join(tmpdir(), 'media-'));
  const root = join(folder, 'root');
  beforeAll(() => {
    mkdirSync(join(root, 'sub'), { recursive: true });
    mkdirSync(join(folder, 'root2'));
    writeFileSync(join(root, 'sub', 'a.png'), bytes);
    writeFileSync(join(folder, 'secret.png'), bytes);
    writeFileSync(join(folder, 'root2', 'b.png'), bytes);
    symlinkSync(join(folder, 'secret.png'), join(root, 'link.png'));
    symlinkSync(join(root, 'sub', 'a.png'), join(root, 'inside.png'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const load = (name: string, allowed: string | undefined = root) =>
    codeOf(decodeImage(name, { trusted: false, allowedLocalMediaPath: allowed }));

  test('need allowedLocalMediaPath', async () => {
    expect(await codeOf(decodeImage(path, { trusted: false }))).toBe('ERR_MEDIA_NOT_ALLOWED');
    expect(await codeOf(decodeImage(pathToFileURL(path), { trusted: false }))).toBe('ERR_MEDIA_NOT_ALLOWED');
  });

  test('may lie inside it, also through links', async () => {
    expect(await load(join(root, 'sub', 'a.png'))).toBeUndefined();
    expect(await load(join(root, 'sub', '..', 'sub', 'a.png'))).toBeUndefined();
    expect(await load(join(root, 'inside.png'))).toBeUndefined();
  });

  test.each([
    ['a sibling', () => join(folder, 'secret.png')],
    ['a folder of the same beginning', () => join(folder, 'root2', 'b.png')],
    ['dots', () => `${root}/sub/../../secret.png`],
    ['a link out', () => join(root, 'link.png')],
    ['the folder itself', () => root],
    ['what does not exist', () => join(root, 'none.png')],
    ['a file URL with encoded dots', () => `${pathToFileURL(root).href}/%2e%2e/secret.png`],
  ])('%s is refused', async (_, name) => {
    expect(await load(name())).toBe('ERR_MEDIA_NOT_ALLOWED');
  });
});

describe('addresses', () => {
  test.each(['93.184.216.34', '2606:2800:220:1:248:1893:25c8:1946'])('%s is public', (address) =>
    expect(isPublicAddress(address)).toBe(true),
  );
  test.each([
    '127.0.0.1',
    '10.0.0.1',
    '172.16.0.1',
    '192.168.1.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '255.255.255.255',
    '224.0.0.1',
    '192.0.2.1',
    '198.18.0.1',
    '::1',
    '::',
    'fe80::1',
    'fc00::1',
    '::ffff:127.0.0.1',
    '64:ff9b::7f00:1',
    '64:ff9b:1::7f00:1',
    '2002:7f00:1::',
    '2001::1',
    'ff02::1',
    '2001:db8::1',
    'localhost',
    '',
  ])('%s is not', (address) => expect(isPublicAddress(address)).toBe(false));
});

describe('URLs', () => {
  let server: Server;
  let port = 0;
  let handler: RequestListener;
  const resolved: string[] = [];
  beforeAll(async () => {
    server = createServer((request, response) => handler(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ({ port } = server.address() as AddressInfo);
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  // The test's network: names resolve to the local server, which counts as public.
  const network: FetchOptions['network'] = {
    resolve: (host) => {
      resolved.push(host);
      return Promise.resolve(
        host.startsWith('nowhere') ? [] : host.startsWith('mixed') ? ['127.0.0.1', '10.0.0.1'] : ['127.0.0.1'],
      );
    },
    isPublic: (address) => address === '127.0.0.1',
  };
  const fetchFrom = (url: string, options: FetchOptions = {}) =>
    fetchMedia(new URL(url), {
      allowedMediaDomains: [`pictures.test:${port}`, `mixed.test:${port}`, `nowhere.test:${port}`, `127.0.0.1:${port}`],
      network,
      ...options,
    });
  const at = (name = '/a.png'): string => `http://pictures.test:${port}${name}`;

  test('are fetched from allowed hosts, redirects followed', async () => {
    handler = (request, response) => {
      if (request.url === '/a.png') response.writeHead(302, { location: '/b.png' }).end();
      else response.end(bytes);
    };
    expect(Buffer.compare(await fetchFrom(at()), bytes)).toBe(0);
    expect(resolved).toContain('pictures.test');
  });

  test.each<[string, string, string]>([
    ['a host that is not listed', 'http://other.test/a.png', 'ERR_MEDIA_NOT_ALLOWED'],
    ['a listed host on another port', 'http://pictures.test:1/a.png', 'ERR_MEDIA_NOT_ALLOWED'],
    ['credentials', 'http://user:secret@pictures.test/a.png', 'ERR_MEDIA_NOT_ALLOWED'],
    ['a backslash trick', 'http://pictures.test\\@evil.test/a.png', 'ERR_MEDIA_NOT_ALLOWED'],
    ['a host that ends alike', 'http://evilpictures.test/a.png', 'ERR_MEDIA_NOT_ALLOWED'],
    ['gopher', 'gopher://pictures.test/a.png', 'ERR_MEDIA_NOT_ALLOWED'],
  ])('%s is refused', async (_, url, code) => {
    expect(await codeOf(fetchFrom(url))).toBe(code);
  });

  test('names are refused where any of their addresses is private, or none exists', async () => {
    expect(await codeOf(fetchFrom(`http://mixed.test:${port}/a.png`))).toBe('ERR_MEDIA_NOT_ALLOWED');
    expect(await codeOf(fetchFrom(`http://nowhere.test:${port}/a.png`))).toBe('ERR_MEDIA_FETCH');
  });

  test('private addresses are refused however they are spelled', async () => {
    let hits = 0;
    handler = (_, response) => {
      hits++;
      response.end(bytes);
    };
    const hosts = [
      '127.0.0.1',
      '0x7f.1',
      '2130706433',
      '127。0。0。1',
      '[::1]',
      '[::ffff:127.0.0.1]',
      '[64:ff9b::7f00:1]',
      '0',
      '127.1',
    ];
    for (const host of hosts) {
      const url = `http://${host}:${port}/`;
      const allowedMediaDomains = [new URL(url).host];
      expect(await codeOf(decodeImage(url, { allowedMediaDomains }))).toBe('ERR_MEDIA_NOT_ALLOWED');
    }
    expect(hits).toBe(0);
  });

  test('every hop is checked', async () => {
    const targets = [
      'http://other.test/',
      `http://mixed.test:${port}/`,
      'file:///etc/passwd',
      'http://pictures.test:1/',
      'data:image/png;base64,AAAA',
    ];
    for (const location of targets) {
      handler = (_, response) => response.writeHead(302, { location }).end();
      expect(await codeOf(fetchFrom(at()))).toBe('ERR_MEDIA_NOT_ALLOWED');
    }
  });

  test('redirects end', async () => {
    handler = (_, response) => response.writeHead(302, { location: '/again' }).end();
    expect(await codeOf(fetchFrom(at()))).toBe('ERR_MEDIA_FETCH');
  });

  test('answers are bounded in bytes, announced or not', async () => {
    handler = (_, response) => response.writeHead(200, { 'content-length': 10_000_000_000 }).write('x');
    expect(await codeOf(fetchFrom(at()))).toBe('ERR_MEDIA_TOO_LARGE');
    handler = (_, response) => {
      const more = (): void => {
        if (!response.destroyed) response.write(Buffer.alloc(65536), () => setImmediate(more));
      };
      more();
    };
    expect(await codeOf(fetchFrom(at(), { maxBytes: 1 << 20 }))).toBe('ERR_MEDIA_TOO_LARGE');
  });

  test('answers are bounded in time', async () => {
    handler = () => undefined;
    expect(await codeOf(fetchFrom(at(), { timeout: 50 }))).toBe('ERR_MEDIA_TIMEOUT');
    server.closeAllConnections();
  });

  test('failures are coded', async () => {
    handler = (_, response) => response.writeHead(404).end();
    expect(await codeOf(fetchFrom(at()))).toBe('ERR_MEDIA_FETCH');
    handler = (request) => request.socket.destroy();
    expect(await codeOf(fetchFrom(at()))).toBe('ERR_MEDIA_FETCH');
    handler = (_, response) => {
      response.writeHead(200, { 'content-length': 1000 }).write('x', () => response.destroy());
    };
    expect(await codeOf(fetchFrom(at()))).toBe('ERR_MEDIA_FETCH');
    const reason = new Error('enough');
    await expect(fetchFrom(at(), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe('hashImage', () => {
  const pixels = (width: number, height: number, channels: 1 | 3 | 4, value = 1) => ({
    width,
    height,
    channels,
    data: new Uint8Array(width * height * channels).fill(value),
  });
  const hex = (...args: Parameters<typeof hashImage>): string => Buffer.from(hashImage(...args)).toString('hex');

  test('tells size, mode, bytes and settings apart', () => {
    const hashes = [
      hex(pixels(6, 2, 1)),
      hex(pixels(2, 6, 1)),
      hex(pixels(2, 2, 3)),
      hex(pixels(3, 1, 4)),
      hex(pixels(6, 2, 1, 2)),
      hex(pixels(6, 2, 1), 'x'),
    ];
    expect(new Set(hashes).size).toBe(hashes.length);
    expect(hex(pixels(6, 2, 1))).toBe(hashes[0]);
  });

  test('a file and pixels that are its bytes are two pictures', () => {
    const bytes = readFileSync(path);
    const handedOver = { width: bytes.length, height: 1, channels: 1 as const, data: new Uint8Array(bytes) };
    const decoded = { ...handedOver, data: new Uint8Array(bytes.length) };
    rememberFile(decoded, createHash('sha256').update(bytes).digest());
    expect(hex(decoded)).not.toBe(hex(handedOver));
  });

  test('does not trust a digest of pixels that a caller may have changed', async () => {
    const image = await decodeImage(path);
    const before = hex(image);
    image.data[0]! ^= 1;
    expect(hex(image)).not.toBe(before);
  });
});
