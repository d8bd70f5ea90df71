/** Small models for the tests of tracing. */
import {
  Embedding,
  Linear,
  Module,
  mergeMultimodal,
  type ForwardInputs,
  type InputSpecs,
  type Value,
} from '../../dist/nn';

/** Runs `body` as a model's forward, with one input x of this shape. */
export function forwardOf(shape: readonly (number | string)[], body: (x: Value, inputs: ForwardInputs) => Value) {
  return class Body extends Module {
    static inputs = (): InputSpecs => ({ x: { dtype: 'float32', shape } });
    readonly embed = new Embedding(10, 8);
    forward(inputs: ForwardInputs): Value {
      return mergeMultimodal(this.embed.forward(inputs.inputIds), inputs.inputIds, body(inputs.x as Value, inputs), 9);
    }
  };
}

export class TinyText extends Module {
  readonly embed = new Embedding(10, 8);
  readonly head = new Linear(8, 10, { bias: false });
  forward({ inputIds }: ForwardInputs): Value {
    return this.embed.forward(inputIds);
  }
  computeLogits(hidden: Value): Value {
    return this.head.forward(hidden);
  }
}

/** The OcelliError that `body` throws. */
export function errorOf(body: () => unknown): { code: string; message: string; hint?: string } {
  try {
    body();
  } catch (e) {
    return e as { code: string; message: string; hint?: string };
  }
  throw new Error('expected an error');
}
