import { OcelliError } from '../../errors';
import { callerLine } from '../caller';
import { Module, Parameter } from '../module';
import { gatherRows, linear, type LinearOptions } from '../ops';
import type { Value } from '../value';

/** y = x w^T + b. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias?: Parameter;

  /** @param options.weight another module's parameter (tied embeddings) */
  constructor(inFeatures: number, outFeatures: number, options: { bias?: boolean; weight?: Parameter } = {}) {
    super();
    this.weight = options.weight ?? new Parameter([outFeatures, inFeatures]);
    if (options.bias ?? true) this.bias = new Parameter([outFeatures]);
  }

  forward(x: Value, options: LinearOptions = {}): Value {
    return linear(x, this.weight, this.bias, options);
  }
}

/**
 * Several linear layers over the same x as one product: [.., sum of their outputs], in order. The checkpoint keeps their names
 * (q_proj, k_proj, v_proj); the engine joins the rows when it loads them.
 */
export function mergedLinear(x: Value, layers: readonly Linear[], options: LinearOptions = {}): Value {
  const biases = layers.map((l) => l.bias).filter((b) => b !== undefined);
  if (biases.length !== 0 && biases.length !== layers.length) {
    throw new OcelliError(
      'ERR_OPERAND',
      `Expected all layers of mergedLinear at ${callerLine()} to have a bias, or none, but ${biases.length} of ${layers.length} have one`,
    );
  }
  return linear(
    x,
    layers.map((l) => l.weight),
    biases.length === 0 ? undefined : biases,
    options,
  );
}

/** Rows of a table by token id. */
export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(numEmbeddings: number, embeddingDim: number) {
    super();
    this.weight = new Parameter([numEmbeddings, embeddingDim]);
  }

  forward(ids: Value): Value {
    return gatherRows(this.weight, ids);
  }
}
