/** What `ocelli bench` sends: prompts of random token ids, with pictures of noise where asked for. */
import type { LLM, RawImage, TokensPrompt } from '../index';
import { UsageError } from './outcome';

export interface DataFlags {
  inputLen: number;
  outputLen: number;
  rangeRatio: number;
  imagesPerPrompt: number;
  imageSize: { width: number; height: number };
}

export interface BenchRequest {
  prompt: TokensPrompt;
  outputLen: number;
}

/** mulberry32: from 0 to below 1, the same on every machine. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Lengths are drawn evenly from [len (1 - ratio), len (1 + ratio)], as vLLM's random data set has them. No two prompts share a beginning
 * or a picture, so no cache answers.
 */
export function randomRequests(llm: LLM, flags: DataFlags, count: number, seed: number): BenchRequest[] {
  const random = randomNumbers(seed);
  const length = (mean: number): number => {
    const least = Math.floor(mean * (1 - flags.rangeRatio));
    return Math.max(1, least + Math.floor(random() * (Math.floor(mean * (1 + flags.rangeRatio)) - least + 1)));
  };
  const ids = ordinaryIds(llm);
  return Array.from({ length: count }, () => {
    const text = Array.from({ length: length(flags.inputLen) }, () => ids[Math.floor(random() * ids.length)]!);
    const images = Array.from({ length: flags.imagesPerPrompt }, () => noise(flags.imageSize, random));
    const outputLen = length(flags.outputLen);
    if (images.length === 0) return { prompt: { promptTokenIds: text }, outputLen };
    const placeholders = images.map(() => placeholderId(llm));
    return { prompt: { promptTokenIds: [...placeholders, ...text], multiModalData: { image: images } }, outputLen };
  });
}

function noise({ width, height }: DataFlags['imageSize'], random: () => number): RawImage {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) data[i] = random() * 256;
  return { width, height, channels: 3, data };
}

/** The vocabulary without the ids that configurations name: placeholders, beginnings and ends. */
function ordinaryIds({ modelConfig }: LLM): number[] {
  const named = new Set<unknown>();
  for (const config of [modelConfig.hfConfig, modelConfig.textConfig]) {
    for (const [key, value] of Object.entries(config)) if (/_token_(id|index)$/.test(key)) named.add(value);
  }
  const vocabulary = modelConfig.textConfig.vocab_size as number;
  return Array.from({ length: vocabulary }, (_, id) => id).filter((id) => !named.has(id));
}

function placeholderId({ modelConfig: { hfConfig, name } }: LLM): number {
  const id = hfConfig.image_token_index ?? hfConfig.image_token_id;
  if (typeof id !== 'number') throw new UsageError(`Expected a model that takes pictures but ${name} takes none`);
  return id;
}
