import {
  Module,
  Embedding,
  RotaryEmbedding,
  reshape,
  traceModel,
  type ForwardInputs,
  type ProgramJson,
  type RotaryOptions,
  type Value,
} from '../../dist/nn';
import { errorOf } from './models';

function programOf(headDim: number, options: RotaryOptions): ProgramJson {
  class Net extends Module {
    readonly embed = new Embedding(4, headDim);
    readonly rotary = new RotaryEmbedding(headDim, options);
    forward({ inputIds, positions }: ForwardInputs): Value {
      const x = this.embed.forward(inputIds);
      return reshape(this.rotary.forward(positions, reshape(x, [x.shape[0]!, 1, headDim])), x.shape);
    }
  }
  return traceModel(Net, {}).text;
}

const frequencies = (headDim: number, options: RotaryOptions): number[] =>
  programOf(headDim, options).constants![0]!.data;
const ropeAttrs = (headDim: number, options: RotaryOptions) =>
  programOf(headDim, options)
    .ops.filter((op) => op.op === 'rope')
    .map((op) => op.attrs!);

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

test('yarn: quick frequencies stay, slow ones are stretched, attention is sharpened', () => {
  // By hand: of 8 frequencies theta^(-i/8) over 1024 positions, number i turns 1024 / (2 pi theta^(i/8)) times. 32 turns lie between
  // numbers 1 and 2, one turn between 4 and 5: the ramp rises from 1 to 5.
  const scaling = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 1024 };
  const options = { theta: 10000, scaling };
  const plain = frequencies(16, { theta: 10000 });
  const expected = plain.map((f, i) => {
    const ramp = Math.min(1, Math.max(0, (i - 1) / 4));
    return (f / 4) * ramp + f * (1 - ramp);
  });
  frequencies(16, options).forEach((f, i) => expect(f / expected[i]!).toBeCloseTo(1, 6));
  expect(ropeAttrs(16, options)[0]!.scale).toBeCloseTo(0.1 * Math.log(4) + 1, 12);
  const ratio = { theta: 10000, scaling: { ...scaling, mscale: 0.5, mscale_all_dim: 1 } };
  expect(ropeAttrs(16, ratio)[0]!.scale).toBeCloseTo((0.05 * Math.log(4) + 1) / (0.1 * Math.log(4) + 1), 12);
  expect(ropeAttrs(16, { theta: 10000, scaling: { ...scaling, attention_factor: 1.5 } })[0]!.scale).toBe(1.5);
});

test.each<[string, RotaryOptions]>([
  ['rope_scaling.rope_type', { theta: 1e4, scaling: { rope_type: 'spiral' } }],
  ['rope_scaling.original_max_position_embeddings', { theta: 1e4, scaling: { rope_type: 'yarn', factor: 2 } }],
  [
    'rope_scaling.short_factor',
    {
      theta: 1e4,
      scaling: {
        rope_type: 'longrope',
        original_max_position_embeddings: 8,
        max_position_embeddings: 16,
        short_factor: [1],
      },
    },
  ],
  ['rope_scaling.factor', { theta: 1e4, scaling: { rope_type: 'linear' } }],
  ['rope_scaling.low_freq_factor', { theta: 1e4, scaling: { rope_type: 'llama3', factor: 2 } }],
])('an error names %s', (field, options) => {
  const error = errorOf(() => frequencies(8, options));
  expect(error.code).toBe('ERR_CONFIG');
  expect(error.message).toContain(field);
});
