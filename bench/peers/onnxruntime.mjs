// onnxruntime-node: one graph with one float input `x`.
import ort from 'onnxruntime-node';

export async function start({ file, threads, shape }) {
  const session = await ort.InferenceSession.create(file, { intraOpNumThreads: threads, executionMode: 'sequential' });
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * 0.7));
  const feeds = { x: new ort.Tensor('float32', data, shape) };
  return {
    async run() {
      const started = performance.now();
      await session.run(feeds);
      return performance.now() - started;
    },
  };
}
