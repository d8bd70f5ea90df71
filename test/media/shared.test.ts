/** Decoded pictures that requests share: their pixels lie outside V8's heap, for exactly as long as somebody holds them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { decodeImage, type RawImage } from '../../dist/media';
import { decodeCounts, decodeShared, PictureHolds } from '../../dist/media/decode-cache';
import { preprocessImage } from '../../dist/media/native-image';
import { codeOf, fixtures, pattern, root, sha256 } from './pictures';

const images = join(fixtures, 'images');
/** Of the store, as decode-cache.ts has it. */
const capacity = 64 * 2 ** 20;
const [width, height] = [1200, 900];

/** An uncompressed file; another for each `n`. */
function bmp(n: number): Uint8Array {
  const file = Buffer.alloc(54 + width * height * 3);
  file.write('BM');
  file.writeUInt32LE(54, 10);
  file.writeUInt32LE(40, 14);
  file.writeInt32LE(width, 18);
  file.writeInt32LE(-height, 22);
  file.writeUInt16LE(1, 26);
  file.writeUInt16LE(24, 28);
  file.fill(n, 54);
  return file;
}

/** Decodes so many new pictures for requests that end at once that the store keeps nothing else. */
let made = 0;
async function fillStore(): Promise<void> {
  for (let filled = 0; filled <= capacity; filled += width * height * 3) {
    const holds = new PictureHolds();
    await decodeShared(bmp(++made), {}, holds);
    holds.letGo();
  }
}

const plan = { steps: [{ op: 'resize', width: 64, height: 48, filter: 'bicubic' }], rescaleFactor: 1 / 255 } as const;
const plain = ({ width, height, channels, data }: RawImage): RawImage => ({ width, height, channels, data });
const codeOfRead = (image: RawImage): Promise<string | undefined> => codeOf((async () => image.data)());

test.each(['png_rgb.png', 'jpeg_420_157x119.jpg', 'jpeg_cmyk_adobe.jpg', 'exif_6.jpg'])(
  '%s has the pixels that it has alone, for native threads and for JavaScript',
  async (name) => {
    const bytes = readFileSync(join(images, name));
    const alone = await decodeImage(bytes);
    const image = await decodeShared(bytes, {}, new PictureHolds());
    const tensor = await preprocessImage(image, plan);
    expect(sha256(new Uint8Array(tensor.buffer))).toBe(
      sha256(new Uint8Array((await preprocessImage(alone, plan)).buffer)),
    );
    expect(plain(image)).toEqual(alone);
    expect(sha256(new Uint8Array((await preprocessImage(image, plan)).buffer))).toBe(
      sha256(new Uint8Array(tensor.buffer)),
    );
  },
);

test('what was read is an array like any other: written to, it is what native threads see', async () => {
  const image = await decodeShared(bmp(++made), {}, new PictureHolds());
  image.data.fill(7);
  expect([...new Set(await preprocessImage(image, { ...plan, rescaleFactor: 1 }))]).toEqual([7]);
  image.data = pattern(height, width).data;
  expect(sha256(image.data)).toBe(sha256(pattern(height, width).data));
});

test('pixels stay while a request holds them, and go when nobody does', async () => {
  const [first, second] = [new PictureHolds(), new PictureHolds()];
  const file = bmp(++made);
  const [image, same] = [await decodeShared(file, {}, first), await decodeShared(file, {}, second)];
  expect(same).toBe(image);
  await fillStore();
  first.letGo();
  first.letGo();
  expect(sha256((await preprocessImage(image, plan)) as unknown as Uint8Array)).toMatch(/^[0-9a-f]{64}$/);
  second.letGo();
  await Promise.resolve();
  expect(await codeOfRead(image)).toBe('ERR_IMAGE_RELEASED');
  expect(await codeOf(preprocessImage(image, plan))).toBe('ERR_IMAGE_RELEASED');
  const { decodes } = decodeCounts;
  await decodeShared(file, {}, first); // let go already: the store's alone
  expect(decodeCounts.decodes).toBe(decodes + 1);
});

test('pixels that native threads read are there until they have', async () => {
  const holds = new PictureHolds();
  const image = await decodeShared(bmp(++made), {}, holds);
  await fillStore();
  const expected = sha256(new Uint8Array((await preprocessImage(image, plan)).buffer));
  const running = Array.from({ length: 12 }, () => preprocessImage(image, plan));
  holds.letGo();
  await Promise.resolve();
  expect(await codeOfRead(image)).toBe('ERR_IMAGE_RELEASED');
  for (const tensor of await Promise.all(running)) expect(sha256(new Uint8Array(tensor.buffer))).toBe(expected);
});

test('a request that is done before its picture is leaves nothing', async () => {
  const holds = new PictureHolds();
  const pending = decodeShared(bmp(++made), {}, holds);
  holds.letGo();
  const image = await pending; // kept by the store
  expect(await codeOf(preprocessImage(image, plan))).toBeUndefined();
  await fillStore();
  await Promise.resolve();
  expect(await codeOfRead(image)).toBe('ERR_IMAGE_RELEASED');
});

test('one that takes too long fails its request; the next is served', async () => {
  expect(await codeOf(decodeShared(bmp(++made), { timeout: 1 }, new PictureHolds()))).toBe('ERR_IMAGE_TIMEOUT');
  expect((await decodeShared(bmp(made), {}, new PictureHolds())).width).toBe(width);
});

test('V8 counts none of their bytes', async () => {
  await fillStore();
  const before = process.memoryUsage().arrayBuffers;
  const holds = new PictureHolds();
  const held = await Promise.all(Array.from({ length: 8 }, () => decodeShared(bmp(++made), {}, holds)));
  const files = 8 * bmp(0).length; // what this test made
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1.5 * files);
  expect(held).toHaveLength(8);
});

test('workers that are terminated while pictures are decoded and read take nobody along', async () => {
  const body = `
    const { decodeShared, PictureHolds } = require(${JSON.stringify(join(root, 'dist/media/decode-cache.js'))});
    const { preprocessImage } = require(${JSON.stringify(join(root, 'dist/media/native-image.js'))});
    const { parentPort, workerData } = require('node:worker_threads');
    const plan = ${JSON.stringify(plan)};
    const ask = async (n) => {
      const file = Uint8Array.from(workerData);
      file[60] = n;
      const image = await decodeShared(file, {}, new PictureHolds());
      parentPort.postMessage('decoded');
      for (;;) await preprocessImage(image, plan);
    };
    for (let n = 0; n < 6; n++) ask(n);`;
  for (let round = 0; round < 6; round++) {
    const worker = new Worker(body, { eval: true, workerData: bmp(round) });
    // One that runs nothing yet ends as if it were done.
    await new Promise((resolve) => worker.once(round % 2 === 0 ? 'message' : 'online', resolve));
    if (round % 2 !== 0) await new Promise((resolve) => setTimeout(resolve, 40 * round));
    expect(await worker.terminate()).toBe(1);
  }
  expect((await decodeShared(bmp(++made), {}, new PictureHolds())).width).toBe(width);
}, 60_000);
