/** CLIP, SigLIP and LLaVA (do_pad): resize, centre crop, normalise; every picture the same size. */
import { OcelliError } from '../../errors';
import type { PixelStep, RawPreprocessPlan } from '../../media/preprocess';
import { preprocessImage } from '../../media/native-image';
import { Tensor } from '../../media/tensor';
import type { RawImage } from '../../media/types';
import { stack } from '../kwargs';
import type { ProcessorConfig } from './config';

export async function clip(images: readonly RawImage[], config: ProcessorConfig): Promise<Record<string, Tensor>> {
  const tensors = await Promise.all(
    images.map(async (image) => {
      const { steps, width, height } = clipSteps(image.width, image.height, config);
      const data = await preprocessImage(image, { steps, ...normalisation(config) });
      return new Tensor('float32', [3, height, width], data);
    }),
  );
  const first = tensors[0]!;
  const odd = tensors.findIndex((t) => t.shape.some((n, i) => n !== first.shape[i]));
  if (odd >= 0) {
    throw new OcelliError(
      'ERR_IMAGE_SIZE',
      `Expected pictures of one size after preprocessing but received [${first.shape.join(', ')}] and [${tensors[odd]!.shape.join(', ')}]`,
      { hint: 'The processor neither crops nor resizes to a fixed size: send pictures of one aspect.' },
    );
  }
  return { pixelValues: stack(tensors) };
}

/** The float part of the plan. */
export function normalisation(config: ProcessorConfig): Pick<RawPreprocessPlan, 'rescaleFactor' | 'mean' | 'std'> {
  return {
    rescaleFactor: config.doRescale ? config.rescaleFactor : 1,
    ...(config.doNormalize ? { mean: config.mean, std: config.std } : {}),
  };
}

/** The uint8 part: what happens to a picture of this size, and the size it ends with. */
export function clipSteps(
  width: number,
  height: number,
  config: ProcessorConfig,
): { steps: PixelStep[]; width: number; height: number } {
  const steps: PixelStep[] = [];
  let w = width;
  let h = height;
  if (config.doPad && config.type === 'LlavaImageProcessor' && w !== h) {
    steps.push(padToSquare(w, h, config));
    w = h = Math.max(w, h);
  }
  if (config.doResize) {
    [w, h] = resizedSize(w, h, config);
    steps.push({ op: 'resize', width: w, height: h, filter: config.filter });
  }
  if (config.doCenterCrop) {
    const { height: cropHeight, width: cropWidth } = config.cropSize;
    if (cropHeight === undefined || cropWidth === undefined) {
      throw new OcelliError('ERR_PROCESSOR_CONFIG', 'Expected height and width for crop_size', {
        details: { field: 'crop_size' },
      });
    }
    // A picture smaller than the crop lies in black, the odd pixel above and to the left.
    const offset = (side: number, crop: number): number =>
      side >= crop ? Math.floor((side - crop) / 2) : -Math.ceil((crop - side) / 2);
    steps.push({
      op: 'crop',
      left: offset(w, cropWidth),
      top: offset(h, cropHeight),
      width: cropWidth,
      height: cropHeight,
    });
    w = cropWidth;
    h = cropHeight;
  }
  return { steps, width: w, height: h };
}

/** A square of the mean colour with the picture in its middle, the odd pixel right and below. */
export function padToSquare(width: number, height: number, { mean }: ProcessorConfig): PixelStep {
  const side = Math.max(width, height);
  const [r, g, b] = mean.map((m) => Math.trunc(m * 255)) as [number, number, number];
  return {
    op: 'pad',
    width: side,
    height: side,
    left: Math.floor((side - width) / 2),
    top: Math.floor((side - height) / 2),
    fill: [r, g, b],
  };
}

/** [width, height] after the resize. */
function resizedSize(w: number, h: number, { size }: ProcessorConfig): [number, number] {
  if (size.shortest_edge !== undefined) {
    const edge = size.shortest_edge;
    const long = Math.trunc((edge * Math.max(w, h)) / Math.min(w, h));
    return w <= h ? [edge, long] : [long, edge];
  }
  if (size.height !== undefined && size.width !== undefined) return [size.width, size.height];
  throw new OcelliError(
    'ERR_PROCESSOR_CONFIG',
    `Expected shortest_edge, or height and width, for size but received ${JSON.stringify(size)}`,
    {
      details: { field: 'size' },
    },
  );
}
