import { OcelliError } from '../../errors';
import { decodeImage } from '../../media/decode';
import type { Tensor } from '../../media/tensor';
import { isTensor } from '../../media/tensor';
import { isRawImage, type ImageInput, type RawImage } from '../../media/types';
import type { Kwargs } from '../../config/hooks';
import type { RegistryModelConfig } from '../../config/model-class';
import { clip } from './clip';
import { chooseSettings, processorConfig, readProcessorConfig, type ProcessorConfig } from './config';
import { gemma3 } from './gemma3';
import { gotOcr2 } from './got-ocr2';
import { idefics3 } from './idefics3';
import { llavaNext, llavaOnevision } from './llava-next';
import { pixtral } from './pixtral';
import { qwen2Vl } from './qwen2-vl';

/** One processor class: decoded RGB pictures to the tensors that its models take. */
export type Preprocess = (images: readonly RawImage[], config: ProcessorConfig) => Promise<Record<string, Tensor>>;

const classes: Readonly<Record<string, Preprocess>> = {
  CLIPImageProcessor: clip,
  LlavaImageProcessor: clip,
  SiglipImageProcessor: clip,
  LlavaNextImageProcessor: llavaNext,
  LlavaOnevisionImageProcessor: llavaOnevision,
  Idefics3ImageProcessor: idefics3,
  SmolVLMImageProcessor: idefics3,
  GotOcr2ImageProcessor: gotOcr2,
  Gemma3ImageProcessor: gemma3,
  PixtralImageProcessor: pixtral,
  Qwen2VLImageProcessor: qwen2Vl,
};

const cache = new Map<string, ImageProcessor>();
const cacheSize = 32;
const ofModels = new WeakMap<RegistryModelConfig, ImageProcessor>();
const ofFrames = new WeakMap<RegistryModelConfig, ImageProcessor>();

/**
 * The image processor of a checkpoint, driven by its preprocessor_config.json: Pillow's arithmetic on uint8, then the reference's
 * float32 normalisation, bit for bit (transformers, models/<family>/image_processing_<family>.py, Pillow back end).
 */
export class ImageProcessor {
  private constructor(private readonly file: Record<string, unknown>) {}

  /** @param folder a checkpoint folder, or a preprocessor_config.json. The last ones are kept. */
  static async load(folder: string): Promise<ImageProcessor> {
    const known = cache.get(folder);
    if (known) return known;
    const processor = new ImageProcessor(await readProcessorConfig(folder));
    processor.config({});
    if (cache.size >= cacheSize) cache.delete(cache.keys().next().value!);
    cache.set(folder, processor);
    return processor;
  }

  /** The processor of a model whose configuration files are read already; kept as long as the configuration. */
  static of(modelConfig: RegistryModelConfig): ImageProcessor {
    let processor = ofModels.get(modelConfig);
    if (!processor) {
      const { preprocessorConfig, processorConfig: other, model } = modelConfig;
      processor = ImageProcessor.fromConfig(chooseSettings(preprocessorConfig, other, model));
      ofModels.set(modelConfig, processor);
    }
    return processor;
  }

  /** What a model's videos go through, frame by frame: the same class, with settings of its own where the checkpoint has a file of them. */
  static ofVideos(modelConfig: RegistryModelConfig): ImageProcessor {
    const pictures = ImageProcessor.of(modelConfig);
    const own = modelConfig.videoProcessorConfig ?? modelConfig.processorConfig?.video_processor;
    if (typeof own !== 'object' || own === null) return pictures;
    let processor = ofFrames.get(modelConfig);
    if (!processor) {
      processor = ImageProcessor.fromConfig({ ...own, image_processor_type: pictures.config({}).type });
      ofFrames.set(modelConfig, processor);
    }
    return processor;
  }

  /** A processor of given settings, in the file's own names. */
  static fromConfig(settings: Readonly<Record<string, unknown>>): ImageProcessor {
    const processor = new ImageProcessor({ ...settings });
    processor.config({});
    return processor;
  }

  config(kwargs: Readonly<Kwargs>): ProcessorConfig {
    return processorConfig(this.file, kwargs);
  }

  /**
   * @param kwargs override the file's settings for this call
   * @returns pixelValues first; what else the family needs (imageSizes [n, 2] height, width; imageGridThw)
   */
  async preprocess(images: readonly ImageInput[], kwargs: Readonly<Kwargs> = {}): Promise<Record<string, Tensor>> {
    const config = this.config(kwargs);
    const decoded = await Promise.all(
      images.map((image, i) => {
        if (isTensor(image))
          throw new OcelliError('ERR_IMAGE_TYPE', `Expected a picture but received a tensor at index ${i}`, {
            details: { index: i },
          });
        return isRawImage(image) && image.channels === 3 ? image : decodeImage(image);
      }),
    );
    if (decoded.length === 0)
      throw new OcelliError('ERR_IMAGE_TYPE', 'Expected at least one picture but received none');
    return classes[config.type]!(decoded, config);
  }
}
