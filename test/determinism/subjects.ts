/** The models that mixes run on: the built-in one, tiny ones of each family, random weights of a real model's width. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LLM, OcelliError, type EngineOptions, type Prompt } from '../../dist/index';
import { picture, randomIds, realWidth } from '../engine/models';
import { readGoldenFolder } from '../goldens/folder';
import { shared } from '../media/pictures';
import { fixtureModels } from '../models/fixtures';
import type { Random } from './random';

export interface Subject {
  name: string;
  load(options: EngineOptions): Promise<LLM>;
  /** A few beginnings, so that prompts of one mix share prefixes and pictures, and an end of its own. */
  prompt(random: Random): Prompt;
  /** Bounds of a mix: the model of real width takes seconds for what the others do in milliseconds. */
  maxRequests: number;
  maxTokens: number;
  /** Spans of a prompt attend both ways, so that a step has to take them whole. */
  bothWays?: boolean;
}

const words = 'a red ring of two small birds over the green house table light where many tell'.split(' ');
const tail = (random: Random, most: number): string =>
  Array.from({ length: random.between(0, most) }, () => random.pick(words)).join(' ');

interface Beginning {
  text: string;
  images: string[];
}

function textual(name: string, model: string, beginnings: readonly Beginning[], options: EngineOptions = {}): Subject {
  const image = Math.max(1, ...beginnings.map((b) => b.images.length));
  const takesPictures = beginnings.some((b) => b.images.length > 0);
  return {
    name,
    load: (more) => LLM.load(model, { ...options, ...(takesPictures ? { limitMmPerPrompt: { image } } : {}), ...more }),
    prompt: (random) => {
      const { text, images } = random.pick(beginnings);
      const prompt = `${text} ${tail(random, 40)}`;
      return images.length === 0 ? prompt : { prompt, multiModalData: { image: images } };
    },
    maxRequests: 9,
    maxTokens: 24,
  };
}

function demo(): Subject {
  const ask = (text: string, ...names: string[]): Beginning => ({
    text: `USER: ${'<image>'.repeat(names.length)}\n${text} ASSISTANT:`,
    images: names.map(picture),
  });
  return textual('demo', 'demo', [
    ask('Describe the image.', 'four-shapes'),
    ask('How many objects are there?', 'red-ring'),
    ask('What color is the heart?', 'four-shapes', 'yellow-heart'),
    ask('What is there?'),
  ]);
}

function golden(path: string): Subject {
  const folder = readGoldenFolder(path);
  const beginnings = folder.cases
    .filter((c) => c.prompt !== null && c.image_embeds === undefined && c.processor_kwargs === undefined)
    .filter((c) => c.input_ids.length <= 400)
    .map((c) => ({ text: c.prompt!, images: c.images.map((name) => folder.picture(name)) }));
  const bothWays = folder.name.startsWith('gemma3') || folder.name.startsWith('paligemma');
  return { ...textual(folder.name, path, beginnings), bothWays };
}

/** Prompts end beside the borders of attention's tiles (256) and of the products' rows. */
const width: Subject = {
  name: 'real-width',
  load: (options) => realWidth({ maxModelLen: 512, ...options }),
  prompt: (random) => {
    const beginning = randomIds(random.between(0, 1), random.pick([3, 31, 128, 255]));
    return [...beginning, ...randomIds(random.between(100, 1e6), random.between(1, 60))];
  },
  maxRequests: 4,
  maxTokens: 6,
};

/** Every layer looks back 32 tokens: blocks are given back while outputs that share a prompt still come in. */
const windowed: Subject = {
  name: 'windowed',
  load: (options) =>
    realWidth(
      { maxModelLen: 512, ...options },
      {
        architectures: ['MistralForCausalLM'],
        model_type: 'mistral',
        hidden_size: 64,
        intermediate_size: 128,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        vocab_size: 300,
        sliding_window: 32,
      },
    ),
  prompt: (random) => [
    ...randomIds(random.between(0, 2), random.pick([1, 30, 33, 80]), 300),
    ...randomIds(random.between(100, 1e6), random.between(1, 60), 300),
  ],
  maxRequests: 9,
  maxTokens: 48,
};

/** Shared folders of models that the library does not have are named, not passed over. */
export async function subjects(): Promise<{ subjects: Subject[]; unknown: string[] }> {
  const found: Subject[] = [demo()];
  const unknown: string[] = [];
  const names = new Set<string>();
  for (const root of [fixtureModels, join(shared, 'golden/models')]) {
    for (const name of existsSync(root) ? readdirSync(root).sort() : []) {
      const path = join(root, name);
      if (names.has(name) || !existsSync(join(path, 'cases.json')) || isLong(path)) continue;
      names.add(name);
      const subject = golden(path);
      try {
        await (await subject.load({})).dispose();
        found.push(subject);
      } catch (e) {
        if (!OcelliError.is(e) || root === fixtureModels) throw e;
        unknown.push(name);
      }
    }
  }
  return { subjects: [...found, windowed, width], unknown };
}

/** A folder of full-size picture prompts says so by its name; its family is there in small. */
function isLong(path: string): boolean {
  const { cases } = JSON.parse(readFileSync(join(path, 'cases.json'), 'utf8')) as { cases: { input_ids: number[] }[] };
  return cases.every((c) => c.input_ids.length > 400);
}
