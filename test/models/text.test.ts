/** Text families: what the configuration leaves to each, and positions of long prompts. */
import { InputContext } from '../../dist/index';
import type { PromptPositions } from '../../dist/models/hooks';
import { GemmaForCausalLM } from '../../dist/models/gemma';
import { LlamaForCausalLM } from '../../dist/models/llama';
import { Phi3ForCausalLM } from '../../dist/models/phi3';
import { traceModel, type ProgramJson, type TraceableClass } from '../../dist/nn';
import { completeConfig } from '../../dist/config/hf-config';
import { fixture } from '../registries/support';

const tiny = {
  vocab_size: 16,
  hidden_size: 8,
  intermediate_size: 16,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 4,
};

function program(modelClass: unknown, config: Record<string, unknown>): ProgramJson {
  return traceModel(modelClass as TraceableClass, completeConfig({ ...tiny, ...config })).text;
}

/** The attribute of each op of a kind, by layer. */
const attribute = ({ ops }: ProgramJson, op: string, name: string) =>
  ops.filter((o) => o.op === op).map((o) => o.attrs?.[name]);

describe('SmolLM3', () => {
  const layers = (more: object) => {
    const { ops } = program(LlamaForCausalLM, { model_type: 'smollm3', num_hidden_layers: 4, ...more });
    return [0, 1, 2, 3].map((i) => ops.filter((o) => o.op === 'rope' && o.path.includes(`layers.${i}.`)).length);
  };

  test('every fourth layer sees no positions', () => {
    expect(layers({})).toEqual([2, 2, 2, 0]);
    expect(layers({ no_rope_layer_interval: 2 })).toEqual([2, 0, 2, 0]);
  });

  test('or those that a list names', () => {
    expect(layers({ no_rope_layers: [1, 0, 0, 1] })).toEqual([2, 0, 0, 2]);
  });
});

describe('Gemma', () => {
  test('Gemma 2: windows in every other layer, softcaps', () => {
    const text = program(GemmaForCausalLM, { model_type: 'gemma2', num_hidden_layers: 4, sliding_window: 5 });
    expect(attribute(text, 'attention_paged', 'window')).toEqual([5, undefined, 5, undefined]);
    expect(attribute(text, 'attention_paged', 'softcap')).toEqual([50, 50, 50, 50]);
    expect(attribute(text, 'act', 'kind')).toEqual(['tanh']);
  });

  test.each([
    [
      'beside each other',
      { rope_theta: 1e6, rope_local_base_freq: 1e4, rope_scaling: { rope_type: 'linear', factor: 8 } },
    ],
    [
      'by kinds of layers',
      {
        rope_parameters: {
          full_attention: { rope_type: 'linear', factor: 8, rope_theta: 1e6 },
          sliding_attention: { rope_type: 'default', rope_theta: 1e4 },
        },
      },
    ],
  ])('Gemma 3: global layers turn an eighth as fast, local ones by their own theta, given %s', (_, rope) => {
    const { ops, constants } = program(GemmaForCausalLM, {
      model_type: 'gemma3_text',
      num_hidden_layers: 3,
      sliding_window_pattern: 3,
      ...rope,
    });
    const frequencies = ops
      .filter((o) => o.op === 'rope')
      .map((o) => constants!.find((c) => c.value === o.in[2])!.data.map((f) => Number(f.toPrecision(6))));
    const [local, global] = [
      [1, 0.01],
      [0.125, 0.000125],
    ];
    expect(frequencies).toEqual([local, local, local, local, global, global]);
  });
});

test('Phi-3: a prompt moves on the axis of its length, and its answer with it', async () => {
  const context = new InputContext(await fixture('phi3'));
  const of = (length: number): PromptPositions =>
    Phi3ForCausalLM.positions(context, new Array<number>(length).fill(0))!;
  expect(of(3)).toEqual({ positions: Int32Array.of(0, 1, 2, 0, 0, 0), delta: [0, null] });
  // original_max_position_embeddings is 128.
  expect(of(128).delta).toEqual([0, null]);
  const { positions, delta } = of(129);
  expect(delta).toEqual([null, 0]);
  expect(Math.max(...positions.subarray(0, 129))).toBe(0);
  expect(positions[2 * 129 - 1]).toBe(128);
});
