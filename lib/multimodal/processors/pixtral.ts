/** Pixtral, Mistral 3: the picture at its own size, shrunk where it is too large, stretched to whole patches. */
import { OcelliError } from '../../errors';
import { preprocessImage } from '../../media/native-image';
import { Tensor } from '../../media/tensor';
import type { RawImage } from '../../media/types';
import { positiveInteger, processorError, type ProcessorConfig, type Size } from './config';
import { int64, squashed } from './views';

/** pixelValues [n, 3, height, width] of the highest and the widest, zeros right and below; imageSizes [n, 2] height, width. */
export async function pixtral(images: readonly RawImage[], config: ProcessorConfig): Promise<Record<string, Tensor>> {
  const sizes = images.map((image) => pixtralSize(image.height, image.width, config));
  const [height, width] = [0, 1].map((axis) => Math.max(...sizes.map((s) => s[axis]!))) as [number, number];
  const imageSizes = int64([images.length, 2], sizes.flat());
  const shape = [images.length, 3, height, width];
  const squash = (image: RawImage, [h, w]: readonly [number, number]): Promise<Float32Array> =>
    preprocessImage(image, squashed(config, { height: h, width: w }));
  if (images.length === 1)
    return { pixelValues: new Tensor('float32', shape, await squash(images[0]!, sizes[0]!)), imageSizes };
  const pixels = new Float32Array(images.length * 3 * height * width);
  await Promise.all(
    images.map(async (image, i) => {
      const [h, w] = sizes[i]!;
      const picture = await squash(image, [h, w]);
      for (let row = 0; row < 3 * h; row++) {
        const to = (i * 3 + Math.floor(row / h)) * height + (row % h);
        pixels.set(picture.subarray(row * w, (row + 1) * w), to * width);
      }
    }),
  );
  return { pixelValues: new Tensor('float32', shape, pixels), imageSizes };
}

/** [height, width] in multiples of the patch (transformers, image_processing_pixtral.py, get_resize_output_image_size). */
export function pixtralSize(height: number, width: number, config: ProcessorConfig): [height: number, width: number] {
  const patch = pixtralPatch(config);
  if (!config.doResize) return [height, width].map((n) => Math.ceil(n / patch) * patch) as [number, number];
  const edge = pixtralEdge(config);
  const ratio = Math.max(height / edge, width / edge);
  const sides = [height, width].map((n) => Math.ceil((ratio > 1 ? Math.floor(n / ratio) : n) / patch) * patch);
  if (sides.every((n) => n > 0)) return sides as [number, number];
  throw new OcelliError(
    'ERR_IMAGE_ASPECT',
    `Expected a picture of which something is left when its longer side is shrunk to ${edge} but received ${width}x${height}`,
  );
}

/** Pixels of a patch's side, merged ones where the family merges. */
export function pixtralPatch({ extra }: ProcessorConfig): number {
  const patch = extra.patch_size as Size | number | undefined;
  const { height, width } = typeof patch === 'object' ? patch : { height: patch, width: patch };
  const side = positiveInteger({ patch_size: height }, 'patch_size', 1024);
  if (width === side) return side;
  throw processorError('patch_size', 'a square', patch);
}

/** A square of it is as many pixels as a picture may have that is decoded. */
const longestSide = 8192;

export function pixtralEdge({ size }: ProcessorConfig): number {
  if (size.longest_edge === undefined) throw processorError('size', 'longest_edge', size);
  return positiveInteger({ 'size.longest_edge': size.longest_edge }, 'size.longest_edge', longestSide);
}
