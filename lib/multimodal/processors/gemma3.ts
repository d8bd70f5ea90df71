/** Gemma 3: the picture squashed to a square; with pan and scan crops of a long one as well. */
import { OcelliError } from '../../errors';
import { preprocessImage } from '../../media/native-image';
import type { Tensor } from '../../media/tensor';
import type { RawImage } from '../../media/types';
import { flag, positiveInteger, processorError, type ProcessorConfig } from './config';
import { int64, joinedViews, squashed, viewBehind } from './views';

/** Where a crop lies in the picture. */
interface Crop {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** pixelValues [views of all pictures, 3, height, width], each picture whole and then its crops; numCrops [n]. */
export async function gemma3(images: readonly RawImage[], config: ProcessorConfig): Promise<Record<string, Tensor>> {
  const { height, width } = config.size;
  if (height === undefined || width === undefined)
    throw new OcelliError('ERR_PROCESSOR_CONFIG', 'Expected height and width for size', { details: { field: 'size' } });
  const pictures = await Promise.all(
    images.map((image) => {
      const crops = panAndScan(image.height, image.width, config).map((crop) =>
        viewBehind(config, [
          { op: 'crop', ...crop },
          { op: 'resize', width, height, filter: config.filter },
        ]),
      );
      return preprocessImage(image, squashed(config, { height, width }), ...crops);
    }),
  );
  return {
    pixelValues: joinedViews(pictures, { height, width }),
    numCrops: int64(
      [images.length],
      images.map((image) => panAndScan(image.height, image.width, config).length),
    ),
  };
}

/** Pixels of a crop's side at least, crops at most, and from which aspect on; undefined where no crops are made. */
export function panAndScanSettings(
  extra: ProcessorConfig['extra'],
): { smallest: number; most: number; ratio: number } | undefined {
  if (!flag(extra, 'do_pan_and_scan', false)) return undefined;
  const smallest = positiveInteger(extra, 'pan_and_scan_min_crop_size', 4096);
  const most = positiveInteger(extra, 'pan_and_scan_max_num_crops', 64);
  const ratio = extra.pan_and_scan_min_ratio_to_activate;
  if (typeof ratio === 'number' && ratio > 0 && ratio <= 64) return { smallest, most, ratio };
  throw processorError('pan_and_scan_min_ratio_to_activate', 'a number from 0 to 64', ratio);
}

/**
 * Crops along the longer side, the last of which may be narrower; none of a picture that is nearly square, or too small
 * (transformers, image_processing_gemma3.py, pan_and_scan).
 */
export function panAndScan(height: number, width: number, { extra }: ProcessorConfig): Crop[] {
  const settings = panAndScanSettings(extra);
  if (!settings) return [];
  const { smallest, most, ratio } = settings;
  const [long, short] = [Math.max(height, width), Math.min(height, width)];
  if (long / short < ratio) return [];
  const wanted = Math.min(Math.floor(long / smallest), Math.floor(long / short + 0.5));
  const count = Math.min(most, Math.max(2, wanted));
  const side = Math.ceil(long / count);
  if (Math.min(side, short) < smallest) return [];
  return Array.from({ length: count }, (_, i) => {
    const start = i * side;
    const length = Math.min(side, long - start);
    return width >= height
      ? { left: start, top: 0, width: length, height }
      : { left: 0, top: start, width, height: length };
  });
}
