// jimp, which is JavaScript alone.
import { Jimp, ResizeStrategy } from 'jimp';
import { cpuMs, resizedTo, toTensor } from './pixels.mjs';

export async function start({ bytes }) {
  const file = Buffer.from(bytes, 'base64');
  const once = async () => {
    const image = await Jimp.fromBuffer(file);
    const [w, h] = resizedTo(image.bitmap.width, image.bitmap.height);
    image.resize({ w, h, mode: ResizeStrategy.BICUBIC });
    return toTensor(image.bitmap.data, 4, w, h);
  };
  return { pictureToTensor: () => cpuMs(once) };
}
