/** preprocessor_config.json, read with the defaults of its class. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readJsonFile } from '../../config/json-file';
import { OcelliError } from '../../errors';
import type { ResizeFilter } from '../../media/preprocess';

/** Sizes are { height, width }, as everywhere in these files. */
export interface Size {
  height?: number;
  width?: number;
  shortest_edge?: number;
  longest_edge?: number;
}

export interface ProcessorConfig {
  /** Without a trailing 'Fast'. */
  type: string;
  doResize: boolean;
  doCenterCrop: boolean;
  doRescale: boolean;
  doNormalize: boolean;
  doPad: boolean;
  size: Size;
  cropSize: Size;
  filter: ResizeFilter;
  rescaleFactor: number;
  mean: [number, number, number];
  std: [number, number, number];
  /** Everything else, by its own name. */
  extra: Readonly<Record<string, unknown>>;
}

/** Pillow's codes. */
const filters: readonly ResizeFilter[] = ['nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming'];

export const clipMean: [number, number, number] = [0.48145466, 0.4578275, 0.40821073];
export const clipStd: [number, number, number] = [0.26862954, 0.26130258, 0.27577711];
const half: [number, number, number] = [0.5, 0.5, 0.5];

type Raw = Record<string, unknown>;

const sixths = [1, 2, 3, 4, 5, 6];

const idefics3: Raw = {
  size: { longest_edge: 1456 },
  max_image_size: { longest_edge: 364 },
  do_image_splitting: true,
  resample: 1,
  image_mean: half,
  image_std: half,
};

/** Defaults by class, as transformers has them. */
const classDefaults: Record<string, Raw> = {
  CLIPImageProcessor: {
    size: { shortest_edge: 224 },
    crop_size: { height: 224, width: 224 },
    do_center_crop: true,
  },
  LlavaImageProcessor: {
    size: { shortest_edge: 224 },
    crop_size: { height: 224, width: 224 },
    do_center_crop: true,
    do_pad: false,
  },
  LlavaNextImageProcessor: {
    size: { shortest_edge: 224 },
    crop_size: { height: 224, width: 224 },
    do_center_crop: true,
    do_pad: true,
    image_grid_pinpoints: [
      [336, 672],
      [672, 336],
      [672, 672],
      [1008, 336],
      [336, 1008],
    ],
  },
  LlavaOnevisionImageProcessor: {
    size: { height: 384, width: 384 },
    do_center_crop: false,
    do_pad: true,
    image_grid_pinpoints: sixths.flatMap((high) => sixths.map((wide) => [384 * high, 384 * wide])),
  },
  SiglipImageProcessor: {
    size: { height: 224, width: 224 },
    image_mean: half,
    image_std: half,
    do_center_crop: false,
  },
  Idefics3ImageProcessor: idefics3,
  SmolVLMImageProcessor: idefics3,
  GotOcr2ImageProcessor: {
    size: { height: 384, width: 384 },
    crop_to_patches: false,
    min_patches: 1,
    max_patches: 12,
  },
  Gemma3ImageProcessor: {
    size: { height: 224, width: 224 },
    image_mean: half,
    image_std: half,
    resample: 2,
    do_pan_and_scan: false,
    pan_and_scan_min_crop_size: 256,
    pan_and_scan_max_num_crops: 4,
    pan_and_scan_min_ratio_to_activate: 1.2,
  },
  PixtralImageProcessor: {
    size: { longest_edge: 1024 },
    patch_size: { height: 16, width: 16 },
  },
  Qwen2VLImageProcessor: {
    patch_size: 14,
    merge_size: 2,
    temporal_patch_size: 2,
    size: { shortest_edge: 3136, longest_edge: 1003520 },
    do_center_crop: false,
  },
};

/** Reads the file of a checkpoint folder: preprocessor_config.json, or the image_processor part of processor_config.json. */
export async function readProcessorConfig(folder: string): Promise<Raw> {
  const isFile = (await stat(folder).catch(() => undefined))?.isFile() ?? false;
  if (isFile) {
    const raw = await readJsonFile(folder);
    return settingsOf(raw) ?? raw ?? missing(folder);
  }
  const [preprocessor, processor] = await Promise.all(
    ['preprocessor_config.json', 'processor_config.json'].map((name) => readJsonFile(join(folder, name))),
  );
  return chooseSettings(preprocessor, processor, folder);
}

/** The image processor's settings among a checkpoint's two files. */
export function chooseSettings(preprocessor: Raw | undefined, processor: Raw | undefined, folder: string): Raw {
  const settings = settingsOf(preprocessor) ?? settingsOf(processor) ?? missing(folder);
  const type = preprocessor?.processor_class ?? processor?.processor_class;
  return {
    ...settings,
    ...processorClasses[String(type)]?.(settings, processor ?? {}),
  };
}

/** What the class around an image processor says in its place, whatever the image processor's file says. */
const processorClasses: Readonly<Record<string, (settings: Raw, processor: Raw) => Raw>> = {
  InternVLProcessor: () => ({ crop_to_patches: true }),
  // Patches are merged, so pictures are whole merged patches.
  PixtralProcessor: ({ patch_size: own }, { patch_size: patch = own, spatial_merge_size: merge = 1 }) =>
    typeof patch === 'number' && typeof merge === 'number' ? { patch_size: patch * merge } : {},
};

function settingsOf(raw: Raw | undefined): Raw | undefined {
  const nested = raw?.image_processor;
  if (typeof nested === 'object' && nested !== null) return nested as Raw;
  const own = raw && (raw.image_processor_type ?? raw.size ?? raw.image_mean) !== undefined;
  return own ? raw : undefined;
}

function missing(folder: string): never {
  throw new OcelliError('ERR_PROCESSOR_CONFIG', `Expected preprocessor_config.json in ${folder} but found none`, {
    hint: 'Image models need it beside config.json.',
  });
}

/** @param kwargs mmProcessorKwargs in camelCase or the file's own names; they win over the file. */
export function processorConfig(file: Raw, kwargs: Readonly<Raw> = {}): ProcessorConfig {
  const type = String(file.image_processor_type ?? file.feature_extractor_type ?? 'CLIPImageProcessor')
    .replace(/Fast$/, '')
    .replace(/FeatureExtractor$/, 'ImageProcessor')
    // What the first files of Qwen2.5-VL call it.
    .replace(/^Qwen2_5_VL/, 'Qwen2VL');
  const defaults = classDefaults[type];
  if (defaults === undefined) {
    throw new OcelliError(
      'ERR_PROCESSOR_CONFIG',
      `Expected one of ${Object.keys(classDefaults).join(', ')} for image_processor_type but received '${type}'`,
      {
        details: { field: 'image_processor_type' },
      },
    );
  }
  const given = Object.fromEntries(Object.entries(file).filter(([, v]) => v !== null && v !== undefined));
  const overrides = Object.fromEntries(
    Object.entries(kwargs).map(([k, v]) => [k.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`), v]),
  );
  const raw: Raw = { ...defaults, ...given, ...overrides };
  // A call's size is the last word on sizes: the pixel counts of the file give way to it.
  if (overrides.size !== undefined)
    for (const name of ['min_pixels', 'max_pixels']) if (overrides[name] === undefined) delete raw[name];
  return {
    type,
    doResize: flag(raw, 'do_resize', true),
    doCenterCrop: flag(raw, 'do_center_crop', false),
    doRescale: flag(raw, 'do_rescale', true),
    doNormalize: flag(raw, 'do_normalize', true),
    doPad: flag(raw, 'do_pad', false),
    size: size(raw, 'size', type.startsWith('Siglip') ? 'both' : 'shortest'),
    cropSize: size(raw, 'crop_size', 'both'),
    filter: filter(raw.resample ?? 3),
    rescaleFactor: number(raw, 'rescale_factor', 1 / 255),
    mean: triple(raw, 'image_mean', clipMean),
    std: triple(raw, 'image_std', clipStd),
    extra: raw,
  };
}

export function processorError(field: string, expected: string, received: unknown): OcelliError {
  return new OcelliError(
    'ERR_PROCESSOR_CONFIG',
    `Expected ${expected} for ${field} but received ${JSON.stringify(received)}`,
    { details: { field } },
  );
}

function fail(field: string, expected: string, received: unknown): never {
  throw processorError(field, expected, received);
}

export function flag(raw: Readonly<Raw>, field: string, fallback: boolean): boolean {
  const value = raw[field] ?? fallback;
  return typeof value === 'boolean' ? value : fail(field, 'a boolean', value);
}

function number(raw: Raw, field: string, fallback: number): number {
  const value = raw[field] ?? fallback;
  return typeof value === 'number' && Number.isFinite(value) && value > 0
    ? value
    : fail(field, 'a positive number', value);
}

export function positiveInteger(raw: Readonly<Raw>, field: string, most = 1e9): number {
  const value = raw[field];
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 1 && value <= most
    ? value
    : fail(field, most < 1e9 ? `an integer from 1 to ${most}` : 'a positive integer', value);
}

function triple(raw: Raw, field: string, fallback: [number, number, number]): [number, number, number] {
  const value = raw[field] ?? fallback;
  if (typeof value === 'number') return [value, value, value];
  if (Array.isArray(value) && value.length === 3 && value.every((v) => typeof v === 'number' && Number.isFinite(v)))
    return value as [number, number, number];
  return fail(field, 'three numbers', value);
}

function filter(resample: unknown): ResizeFilter {
  const found = typeof resample === 'number' ? filters[resample] : filters.find((f) => f === resample);
  return found ?? fail('resample', `a Pillow filter (0 to 5, or ${filters.join(', ')})`, resample);
}

function size(raw: Raw, field: string, bare: 'shortest' | 'both'): Size {
  const value = raw[field] ?? {};
  if (typeof value === 'number')
    return size(
      {
        ...raw,
        [field]: bare === 'shortest' ? { shortest_edge: value } : { height: value, width: value },
      },
      field,
      bare,
    );
  if (Array.isArray(value) && value.length === 2)
    return size(
      {
        ...raw,
        [field]: { height: value[0] as unknown, width: value[1] as unknown },
      },
      field,
      bare,
    );
  if (typeof value !== 'object') return fail(field, 'a size', value);
  const entries = Object.entries(value as Raw).filter(([, v]) => v !== null);
  for (const [key, v] of entries) {
    // Of Qwen's processors, whose edges are numbers of pixels.
    const limit = key.endsWith('edge') && raw.merge_size !== undefined ? 1e9 : 65536;
    if (typeof v !== 'number' || !Number.isSafeInteger(v) || v < 1 || v > limit)
      fail(`${field}.${key}`, `an integer from 1 to ${limit}`, v);
  }
  return Object.fromEntries(entries) as Size;
}
