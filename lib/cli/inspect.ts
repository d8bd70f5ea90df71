/** `ocelli inspect MODEL`: what a model is and what it will cost, from its configuration alone. */
import { InvalidArgumentError, type Command } from 'commander';
import { estimateMemory, INPUT_REGISTRY, ModelConfig, MULTIMODAL_REGISTRY, type MemoryPlan } from '../index';
import { dumpProgram, traceModel, type ProgramJson, type TracedModel } from '../nn';
import { addEngineFlags, engineOptionsOf } from './flags';
import { importModels, importOption } from './load';
import { bytes, print, printJson, table } from './terminal';

interface InspectFlags {
  import: string[];
  imageSize: PictureSize;
  dump?: boolean;
  json?: boolean;
}

interface Inspection {
  name: string;
  folder: string;
  architecture: string;
  modelType: unknown;
  dtype: string;
  parameters: { total: number; text: number; encoders: number };
  layers: number;
  vocabSize: number;
  maxModelLen: number;
  images: Costs<PictureSize> | null;
  videos: Costs<PictureSize & { frames: number }> | null;
  memory: MemoryPlan;
}

interface Costs<Size> {
  perPrompt: number;
  maxTokens: number;
  example: Size & { tokens: number };
}

interface PictureSize {
  width: number;
  height: number;
}

export function addInspectCommand(program: Command): void {
  const command = program
    .command('inspect')
    .description('says what a model is, what a picture costs in it and the memory it needs; reads no weights')
    .argument('[model]', "a folder, owner/name of the hub's cache, or demo", 'demo')
    .addOption(importOption())
    .option('--image-size <WxH>', 'the example picture', sizeOf, { width: 1024, height: 768 })
    .option('--dump', 'print the programs that the model leaves: one line per input, weight and op')
    .option('--json', 'print the same as JSON');
  addEngineFlags(command).action(inspect);
}

async function inspect(model: string, flags: InspectFlags): Promise<void> {
  await importModels(flags.import);
  const options = engineOptionsOf(flags as never);
  const config = await ModelConfig.load(model, options);
  const traced = traceModel(config.modelClass as never, config.hfConfig, config.dtype);
  const programs = [traced.text, ...traced.encoders.flatMap(({ program }) => (program ? [program] : []))];
  if (flags.dump) {
    if (flags.json) printJson(programs);
    else print(programs.map(dumpProgram).join('\n'));
    return;
  }
  const inspection: Inspection = {
    name: config.name,
    folder: config.model,
    architecture: config.architecture,
    modelType: config.hfConfig.model_type,
    dtype: config.dtype,
    parameters: countParameters(programs),
    layers: traced.kvLayers,
    vocabSize: traced.vocabSize,
    maxModelLen: config.maxModelLen,
    ...(await mediaCosts(config, traced, flags.imageSize)),
    memory: await estimateMemory(model, options),
  };
  if (flags.json) printJson(inspection);
  else print(inspectionText(inspection));
}

/** Each weight once, however many programs read it. */
function countParameters(programs: readonly ProgramJson[]): Inspection['parameters'] {
  const sizes = new Map<string, number>();
  const add = (program: ProgramJson): void => {
    for (const { name, shape } of program.weights)
      sizes.set(
        name,
        shape.reduce((a, b) => a * b, 1),
      );
  };
  const sum = (): number => [...sizes.values()].reduce((a, b) => a + b, 0);
  const [text, ...encoders] = programs;
  add(text as ProgramJson);
  const ofText = sum();
  encoders.forEach(add);
  return { total: sum(), text: ofText, encoders: sum() - ofText };
}

const framesOfExample = 8;

/** Examples go through the model's input processor; their pixels do not matter, their sizes do. */
async function mediaCosts(
  config: ModelConfig,
  traced: TracedModel,
  size: PictureSize,
): Promise<Pick<Inspection, 'images' | 'videos'>> {
  if (config.multimodalConfig === undefined) return { images: null, videos: null };
  MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
  const { width, height } = size;
  const image = { width, height, channels: 3 as const, data: new Uint8Array(width * height * 3) };
  const costs = async (modality: 'image' | 'video', item: unknown): Promise<Costs<unknown> | null> => {
    const plugin = MULTIMODAL_REGISTRY.getPlugin(modality);
    const row = traced.placeholderTokenIds[modality];
    if (row === undefined || !plugin.hasInputMapper(config.modelClass)) return null;
    // Gemma 3 writes a picture as the token that begins it.
    const { boi_token_index: begin } = config.hfConfig;
    const { promptTokenIds, segments } = await INPUT_REGISTRY.processInput(config, {
      promptTokenIds: [modality === 'image' && typeof begin === 'number' ? begin : row],
      multiModalData: { [modality]: item },
    });
    const ids = segments?.flatMap((s) => ('text' in s ? [] : s.ids)) ?? promptTokenIds;
    return {
      perPrompt: MULTIMODAL_REGISTRY.getMmLimitsPerPrompt(config)[modality] ?? 0,
      maxTokens: plugin.getMaxMultimodalTokens(config),
      example: { tokens: ids.filter((id) => id === row).length },
    };
  };
  const images = await costs('image', image);
  // Any frames fit of which there are no more than in the largest video.
  const dummy = await INPUT_REGISTRY.dummyDataForProfiling(config, 1, MULTIMODAL_REGISTRY);
  const [largest] = (dummy.multiModalData?.video ?? []) as readonly (readonly unknown[])[];
  const frames = Math.min(framesOfExample, largest?.length ?? 0);
  const videos = frames === 0 ? null : await costs('video', new Array<unknown>(frames).fill(image));
  return {
    images: images && { ...images, example: { ...size, ...images.example } },
    videos: videos && { ...videos, example: { frames, ...size, ...videos.example } },
  };
}

function inspectionText(i: Inspection): string {
  const { memory, images, videos, parameters } = i;
  const millions = (n: number): string =>
    n < 1e6 ? `${(n / 1e3).toFixed(0)} K` : `${(n / 1e6).toFixed(n < 1e8 ? 2 : 0)} M`;
  const split =
    parameters.encoders > 0 ? ` (text ${millions(parameters.text)}, encoder ${millions(parameters.encoders)})` : '';
  let text = `${i.name}: ${i.architecture}, ${i.dtype}\n\n`;
  const about: [string, string][] = [
    ['folder', i.folder],
    ['parameters', `${millions(parameters.total)} that its programs read${split}`],
    ['text model', `${i.layers} layers, vocabulary of ${i.vocabSize}`],
    ['context', `${i.maxModelLen} tokens`],
  ];
  if (images) {
    const { width, height, tokens } = images.example;
    about.push(['pictures', `${images.perPrompt} per prompt; at most ${images.maxTokens} tokens each`]);
    about.push(['for example', `${width} x ${height} pixels: ${tokens} tokens`]);
  } else about.push(['pictures', 'none: a text model']);
  if (videos) {
    const { frames, width, height, tokens } = videos.example;
    about.push(['videos', `${videos.perPrompt} per prompt; at most ${videos.maxTokens} tokens each`]);
    about.push(['for example', `${frames} frames of ${width} x ${height} pixels: ${tokens} tokens`]);
  }
  text += table(about);
  text += `\nMemory of an engine with these options:\n`;
  text += table([
    ['weights', bytes(memory.weights)],
    ['activations', `${bytes(memory.peakActivations)} for ${memory.maxNumBatchedTokens} tokens a step`],
    ['encoder', bytes(memory.encoderActivations)],
    ['encoder cache', bytes(memory.encoderCache)],
    ['KV cache', `${bytes(memory.kvCache)}: ${memory.kvTokens} tokens at ${bytes(memory.kvBytesPerToken)} each`],
    ['together', `${bytes(memory.total)} of ${bytes(memory.limit)} available`],
  ]);
  return text;
}

export function sizeOf(text: string): PictureSize {
  const [, width, height] = /^(\d{1,5})[x*](\d{1,5})$/i.exec(text.trim()) ?? [];
  const size = { width: Number(width), height: Number(height) };
  if (!(size.width >= 1 && size.height >= 1))
    throw new InvalidArgumentError('Expected WIDTHxHEIGHT, such as 1024x768.');
  return size;
}
