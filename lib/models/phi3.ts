/** Phi-3 (Abdin et al. 2024): Llama with fused weights; long prompts turn by frequencies of their own (LongRoPE, Ding et al. 2024). */
import type { InputContext } from '../inputs/context';
import type { PromptPositions } from './hooks';
import { LlamaForCausalLM, type LlamaConfig } from './llama';

const isLong = ({ rope_scaling: scaling }: LlamaConfig): boolean =>
  (scaling?.rope_type ?? scaling?.type) === 'longrope';

export class Phi3ForCausalLM extends LlamaForCausalLM {
  /** With LongRoPE one axis turns by the short factors and one by the long ones. */
  static readonly positionAxes = (config: LlamaConfig): number => (isLong(config) ? 2 : 1);

  /**
   * A prompt moves on one of the two axes, by its length, and stays at 0 on the other, which turns nothing. An answer keeps its
   * prompt's choice, so that its cached keys and its bits do not depend on where it began.
   */
  static positions(ctx: InputContext, promptTokenIds: readonly number[]): PromptPositions | undefined {
    const config = ctx.getHfConfig<LlamaConfig>();
    if (!isLong(config)) return undefined;
    const length = promptTokenIds.length;
    const axis = length > config.rope_scaling!.original_max_position_embeddings! ? 1 : 0;
    const positions = new Int32Array(2 * length);
    for (let i = 0; i < length; i++) positions[axis * length + i] = i;
    return { positions, delta: axis === 0 ? [0, null] : [null, 0] };
  }
}
