/** node ask.mjs [MODULE]: what colour are these pictures? */
import { LLM } from 'ocelli';

await import(process.argv[2] ?? './swatch.js');

/** A picture of one colour. */
function plain(width, height, ...rgb) {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => rgb[i % 3]);
  return { width, height, channels: 3, data };
}

const llm = await LLM.load('weights', { limitMmPerPrompt: { image: 2 } });
const ask = async (image, mmProcessorKwargs) => {
  const prompt = { prompt: '<picture> What colour is this?', multiModalData: { image }, mmProcessorKwargs };
  const { outputs, usage } = await llm.generate(prompt, { temperature: 0 });
  console.log(`${outputs[0].text.trim()} (${usage.imageTokens} tokens)`);
};
await ask(plain(40, 30, 220, 40, 30));
await ask(plain(640, 480, 30, 60, 200));
await ask(plain(640, 480, 240, 220, 20), { maxPatches: 16 });
await llm.dispose();
