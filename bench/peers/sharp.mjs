// sharp, decoding in full before it resizes: what shrinking while it decodes would save changes pixels.
import sharp from 'sharp';
import { cpuMs, resizedTo, toTensor } from './pixels.mjs';

export async function start({ bytes }) {
  sharp.concurrency(1);
  sharp.cache(false);
  const file = Buffer.from(bytes, 'base64');
  const { width, height } = await sharp(file).metadata();
  const [w, h] = resizedTo(width, height);
  const once = async () => {
    const data = await sharp(file).removeAlpha().raw().toBuffer();
    const small = sharp(data, { raw: { width, height, channels: 3 } }).resize(w, h, { kernel: 'cubic', fit: 'fill' });
    return toTensor(await small.raw().toBuffer(), 3, w, h);
  };
  return { pictureToTensor: () => cpuMs(once) };
}
