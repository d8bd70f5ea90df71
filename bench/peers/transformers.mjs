// transformers.js on a folder that onnx.mjs wrote: prompts, decoding, and the first token about a picture.
import * as transformers from '@huggingface/transformers';
import { dirname, basename } from 'node:path';

const { env, Tensor, AutoModelForCausalLM, CLIPImageProcessor, LlavaForConditionalGeneration, RawImage } = transformers;

function tensors(prompts) {
  const shape = [prompts.length, prompts[0].length];
  const flat = prompts.flat();
  return {
    input_ids: new Tensor('int64', BigInt64Array.from(flat.map(BigInt)), shape),
    attention_mask: new Tensor('int64', new BigInt64Array(flat.length).fill(1n), shape),
  };
}

export async function start({ folder, threads, llava }) {
  env.allowRemoteModels = false;
  env.localModelPath = `${dirname(folder)}/`;
  const dtype = llava ? { vision_encoder: 'q8', decoder_model_merged: 'q8', embed_tokens: 'fp32' } : 'q8';
  const kind = llava ? LlavaForConditionalGeneration : AutoModelForCausalLM;
  const session = { intraOpNumThreads: threads };
  const model = await kind.from_pretrained(basename(folder), { dtype, device: 'cpu', session_options: session });
  const processor = llava && new CLIPImageProcessor(llava);
  const generate = (inputs, tokens) =>
    model.generate({
      ...inputs,
      max_new_tokens: tokens,
      min_new_tokens: tokens,
      do_sample: false,
      eos_token_id: null,
    });
  return {
    async prefill(ids) {
      const started = performance.now();
      await generate(tensors([ids]), 1);
      return (ids.length / (performance.now() - started)) * 1000;
    },
    async decode(prompts, tokens) {
      const inputs = tensors(prompts);
      let started = performance.now();
      await generate(inputs, 1);
      const first = performance.now() - started;
      started = performance.now();
      await generate(inputs, tokens + 1);
      return ((prompts.length * tokens) / (performance.now() - started - first)) * 1000;
    },
    /** ms from the file's name to the first token. */
    async firstToken(file, ids) {
      const started = performance.now();
      const { pixel_values } = await processor(await RawImage.read(file));
      await generate({ ...tensors([ids]), pixel_values }, 1);
      return performance.now() - started;
    },
  };
}
