// From a picture of 1024 x 768 to the first token, by family, in bfloat16 and in int8.
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LLM, follow, load1, median, noise, round, spreadOf } from '../serving/engine.mjs';
import { families } from './shapes.mjs';

const fixtures = fileURLToPath(new URL('../../test/fixtures/models', import.meta.url));

/** A folder with the fixture's tokenizer and the family's published sizes. */
function folderOf({ fixture, whole, text, vision, processor, processorConfig }) {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-bench-'));
  const from = join(fixtures, fixture);
  for (const file of ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'processor_config.json'])
    if (existsSync(join(from, file))) cpSync(join(from, file), join(folder, file));
  const read = (name) => JSON.parse(readFileSync(join(from, name), 'utf8'));
  const write = (name, value) => writeFileSync(join(folder, name), JSON.stringify(value));
  const config = { ...read('config.json'), torch_dtype: 'bfloat16', ...whole, vision_config: vision };
  write('config.json', text ? { ...config, text_config: text } : config);
  write('preprocessor_config.json', { ...read('preprocessor_config.json'), ...processor });
  if (processorConfig) write('processor_config.json', { ...read('processor_config.json'), ...processorConfig });
  return folder;
}

/** @param count the picture's width: other than 1024 only to see that a row runs */
async function ttft(family, { threads, repeat = 3, count: width = 1024 }) {
  const height = (3 * width) / 4;
  const load1Before = load1();
  const found = {};
  let tokens;
  for (const [format, quantization] of [
    ['bf16', 'none'],
    ['int8', 'int8'],
  ]) {
    const folder = folderOf(family);
    const llm = await LLM.load(folder, {
      loadFormat: 'dummy',
      quantization,
      threads,
      maxModelLen: 8192,
      maxNumSeqs: 1,
      skipProfileRun: true,
    });
    rmSync(folder, { recursive: true });
    // Weights are touched before the clock runs.
    await llm.generate('Warm up.', { maxTokens: 2, ignoreEos: true, temperature: 0 });
    const times = [];
    for (let i = 0; i < repeat; i++) {
      const prompt = `${family.mark}What is in the picture?`;
      const one = follow(llm, { prompt, multiModalData: { image: noise(width, height) } }, { maxTokens: 1 });
      const { usage } = await one.done;
      tokens = { prompt: usage.promptTokens, picture: usage.imageTokens };
      times.push(one.ttft());
    }
    found[format] = times;
    await llm.dispose();
  }
  return {
    goal: 'told, not judged',
    value: Object.fromEntries(Object.entries(found).map(([format, times]) => [format, round(median(times), 0)])),
    unit: `ms to the first token, ${family.of}: ${tokens.picture} tokens of a picture of ${width} x ${height}`,
    spread: Object.fromEntries(Object.entries(found).map(([format, times]) => [format, spreadOf(times, 0)])),
    pass: Object.values(found).every((times) => times.every(Number.isFinite)),
    tokens,
    // Its models of these families are downloads of gigabytes.
    transformersJs: 'not available',
    load: load1Before,
  };
}

export const rows = Object.fromEntries(
  Object.entries(families).map(([name, family]) => [`families/ttft-${name}`, (asked) => ttft(family, asked)]),
);
