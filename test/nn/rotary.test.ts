import {
  Module,
  Embedding,
  RotaryEmbedding,
  reshape,
  traceModel,
  type ForwardInputs,
  type RotaryOptions,
  type Value,
} from '../../dist/nn';
import { errorOf } from './models';

function frequencies(headDim: number, options: RotaryOptions): number[] {
  class Net extends Module {
    readonly embed = new Embedding(4, headDim);
    readonly rotary = new RotaryEmbedding(headDim, options);
    forward({ inputIds, positions }: ForwardInputs): Value {
      const x = this.embed.forward(inputIds);
      return reshape(this.rotary.forward(positions, reshape(x, [x.shape[0]!, 1, headDim])), x.shape);
    }
  }
  return traceModel(Net, {}).text.constants![0]!.data;
}

test('the default: theta^(-2i/d), as float32', () => {
  const f = frequencies(8, { theta: 10000 });
  expect(f).toEqual([1, Math.fround(0.1), Math.fround(0.01), Math.fround(0.001)]);
});

test('linear and llama3 scaling', () => {
  expect(frequencies(8, { theta: 10000, scaling: { type: 'linear', factor: 4 } })[0]).toBe(0.25);
  // What transformers 5.23 computes for the golden folder llama3-rope.
  const scaling = {
    rope_type: 'llama3',
    factor: 8,
    high_freq_factor: 4,
    low_freq_factor: 1,
    original_max_position_embeddings: 64,
  };
  const f = frequencies(16, { theta: 500000, scaling });
  const plain = frequencies(16, { theta: 500000 });
  expect(f[0]).toBe(1);
  expect(f[7]).toBeCloseTo(plain[7]! / 8, 12);
  expect(f[1]! < plain[1]! && f[1]! > plain[1]! / 8).toBe(true);
});

test.each<[string, RotaryOptions]>([
  ['rope_scaling.rope_type', { theta: 1e4, scaling: { rope_type: 'spiral' } }],
  ['rope_scaling.factor', { theta: 1e4, scaling: { rope_type: 'linear' } }],
  ['rope_scaling.low_freq_factor', { theta: 1e4, scaling: { rope_type: 'llama3', factor: 2 } }],
])('an error names %s', (field, options) => {
  const error = errorOf(() => frequencies(8, options));
  expect(error.code).toBe('ERR_CONFIG');
  expect(error.message).toContain(field);
});
