/** What a model class may declare beside forward, inputs and forms: static hooks that the engine calls at submission. */
import type { InputContext } from '../inputs/context';
import type { Tensor } from '../media/tensor';
import type { ForwardInputs, Value } from '../nn';

/**
 * What a model class that takes items beside text implements, as in vLLM. TypeScript erases it: at run time `static supportsMultimodal =
 * true`, or a registered input mapper, says so.
 */
export interface SupportsMultiModal {
  /** The tensors that the mappers give are among the inputs, under the names that `static inputs` declares. */
  forward(inputs: ForwardInputs): Value;
}

/** One item of a prompt after its mapper, as `static inputs` declares its tensors: a leading dimension that counts items is gone. */
export interface MappedItem {
  readonly modality: string;
  readonly tensors: Readonly<Record<string, Tensor>>;
}

/** An item and the ids that stand for it in the expanded prompt. */
export interface PlacedItem extends MappedItem {
  /** start, length of each run of placeholders; rows in order. */
  readonly ranges: readonly (readonly [start: number, length: number])[];
}

export interface PromptPositions {
  /** [axes, T], row-major. */
  positions: Int32Array;
  /** Added to the index of each generated token, on every axis or on each its own; null: the axis stays at 0. */
  delta: number | readonly (number | null)[];
}

export interface ModelHooksOfClass {
  /** A prompt attends both ways from end to end, so that one step holds all of it: maxNumBatchedTokens follows. */
  readonly wholePrompts?: boolean;
  /**
   * The tensors that forward takes and no mapper gives: index arrays computed from the sizes of one item. Their lengths bind free
   * symbols. The result is merged with the item's tensors; names that `static inputs` does not declare are dropped.
   */
  prepare?(ctx: InputContext, item: MappedItem): Record<string, Tensor>;
  /** Positions of a prompt; without this hook, or where it has nothing to say, they are 0, 1, 2 ... on every axis. */
  positions?(
    ctx: InputContext,
    promptTokenIds: readonly number[],
    items: readonly PlacedItem[],
  ): PromptPositions | undefined;
}
