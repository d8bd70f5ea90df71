// node-llama-cpp on a GGUF file: tokens a second of prompts and of decoding.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

export async function start({ file, threads, sequences = 1, contextSize = 1024, batchSize = 512 }) {
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    logLevel: LlamaLogLevel.error,
    progressLogs: false,
    maxThreads: threads,
  });
  const model = await llama.loadModel({ modelPath: file });
  const context = await model.createContext({ contextSize, sequences, threads, batchSize });
  const all = Array.from({ length: sequences }, () => context.getSequence());
  const clear = async () => {
    for (const sequence of all) await sequence.clearHistory();
  };
  return {
    async prefill(ids) {
      await clear();
      const started = performance.now();
      await all[0].evaluateWithoutGeneratingNewTokens(ids);
      return (ids.length / (performance.now() - started)) * 1000;
    },
    /** `prompts`: one per sequence. */
    async decode(prompts, tokens) {
      await clear();
      const active = all.slice(0, prompts.length);
      for (const [i, sequence] of active.entries()) await sequence.evaluateWithoutGeneratingNewTokens(prompts[i]);
      const started = performance.now();
      const counts = await Promise.all(
        active.map(async (sequence) => {
          const generated = sequence.evaluate([500], { temperature: 0, yieldEogToken: true });
          let count = 0;
          while (count < tokens && !(await generated.next()).done) count++;
          await generated.return();
          return count;
        }),
      );
      return (counts.reduce((a, b) => a + b, 0) / (performance.now() - started)) * 1000;
    },
  };
}
