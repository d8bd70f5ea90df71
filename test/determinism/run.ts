/** Runs a mix twice: each request alone in a plain engine, then all of them together in an engine of the mix's options. */
import type { EngineOptions, LLM, RequestOutput } from '../../dist/index';
import { bitsOf, difference, type Bits } from './bits';
import type { Ask, Mix } from './mix';

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** What the mixes met: a run that preempts nobody proves nothing about preemption. */
export interface Met {
  requests: number;
  tokens: number;
  prefixHits: number;
  encoderHits: number;
  preemptions: number;
  rightGuesses: number;
  quantized: number;
  aborted: number;
  held: number;
  severalOutputs: number;
}

export const nothingMet = (): Met => ({
  requests: 0,
  tokens: 0,
  prefixHits: 0,
  encoderHits: 0,
  preemptions: 0,
  rightGuesses: 0,
  quantized: 0,
  aborted: 0,
  held: 0,
  severalOutputs: 0,
});

export interface MixReport {
  differences: string[];
  options: EngineOptions;
  met: Met;
}

interface Vision {
  deepstack_visual_indexes?: number[];
}

interface Alone {
  bits: Bits[];
  longest: number;
  features: number;
  kvBytesPerToken: number;
  maxModelLen: number;
}

/** Engines that answer one request at a time, one per model and kind; the oldest go where there are many. */
export class References {
  private static readonly most = 24;
  private readonly engines = new Map<string, Promise<LLM>>();

  async answer({ subject, kind, asks }: Mix): Promise<Alone> {
    const key = `${subject.name} ${Object.values(kind).join(' ')}`;
    let engine = this.engines.get(key);
    if (!engine) {
      engine = subject.load({ ...kind, threads: 1, enablePrefixCaching: false });
      this.engines.set(key, engine);
      const [oldest] = this.engines.entries();
      if (this.engines.size > References.most && oldest) {
        this.engines.delete(oldest[0]);
        await (await oldest[1]).dispose();
      }
    }
    const llm = await engine;
    const outputs: RequestOutput[] = [];
    for (const { prompt, params } of asks) outputs.push(await llm.generate(prompt, params));
    const lengths = outputs.map((o, i) => o.usage.promptTokens + asks[i]!.params.maxTokens!);
    // Features that several layers add lie side by side in the encoder cache.
    const { deepstack_visual_indexes: layers = [] } = (llm.modelConfig.hfConfig.vision_config ?? {}) as Vision;
    const width = (llm.modelConfig.textConfig.hidden_size as number) * (1 + layers.length);
    return {
      bits: outputs.map(bitsOf),
      longest: Math.max(...lengths),
      features: Math.max(...outputs.map((o) => o.usage.imageTokens)) * width * Float32Array.BYTES_PER_ELEMENT,
      kvBytesPerToken: llm.memoryPlan.kvBytesPerToken,
      maxModelLen: llm.memoryPlan.maxModelLen,
    };
  }

  async dispose(): Promise<void> {
    for (const engine of this.engines.values()) await (await engine).dispose();
  }
}

export async function runMix(mix: Mix, references: References): Promise<MixReport> {
  const alone = await references.answer(mix);
  const options: EngineOptions = { ...mix.kind, ...mix.options(alone) };
  if (mix.subject.bothWays) options.maxNumBatchedTokens = Math.max(options.maxNumBatchedTokens!, alone.longest);
  const llm = await mix.subject.load(options);
  const differences: string[] = [];
  const met = nothingMet();
  for (const [wave, order] of mix.waves.entries()) {
    const outputs = await Promise.all(order.map((i) => send(llm, mix.asks[i]!, met)));
    for (const [at, i] of order.entries()) {
      const output = outputs[at]!;
      const cut = output.outputs.some((o) => o.finishReason === 'abort');
      const where = difference(alone.bits[i]!, bitsOf(output), cut);
      if (where !== undefined) differences.push(`wave ${wave}, request ${i}: ${where}`);
      met.requests++;
      met.tokens += output.usage.completionTokens;
      if (cut) met.aborted++;
      if (output.outputs.length > 1) met.severalOutputs++;
    }
  }
  const { prefixCacheHits, encoderCacheHits, preemptions, acceptedTokens, kvBlocksUsed, running, waiting } =
    await settled(llm);
  if (kvBlocksUsed + running + waiting > 0)
    differences.push(`${kvBlocksUsed} blocks, ${running} running and ${waiting} waiting sequences are left behind`);
  Object.assign(met, { prefixHits: prefixCacheHits, encoderHits: encoderCacheHits, preemptions });
  Object.assign(met, { rightGuesses: acceptedTokens, quantized: mix.kind.quantization === 'none' ? 0 : 1 });
  await llm.dispose();
  return { differences, options, met };
}

/** Reads as the ask says; an aborted one comes to its end too. */
async function send(
  llm: LLM,
  { prompt, params, request, delay, abortAfter, rest }: Ask,
  met: Met,
): Promise<RequestOutput> {
  if (delay > 0) await sleep(delay);
  const stream = llm.stream(prompt, params, request);
  if (abortAfter === 0) {
    await sleep(delay);
    stream.abort();
  } else if (abortAfter !== undefined) {
    let items = 0;
    for await (const _ of stream) {
      if (++items === abortAfter) stream.abort();
    }
  } else if (rest !== undefined) {
    met.held++;
    for await (const _ of stream) await sleep(rest);
  }
  return stream.result;
}

/** The engine hears of an abort with its next step. */
async function settled(llm: LLM): Promise<ReturnType<LLM['stats']>> {
  for (let i = 0; i < 200; i++) {
    const { kvBlocksUsed, running, waiting } = llm.stats();
    if (kvBlocksUsed + running + waiting === 0) break;
    await sleep(5);
  }
  return llm.stats();
}
