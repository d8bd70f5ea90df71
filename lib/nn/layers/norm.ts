import { Module, Parameter } from '../module';
import { layerNorm, rmsNorm } from '../ops';
import type { Value } from '../value';

export class RMSNorm extends Module {
  readonly weight: Parameter;
  readonly #eps: number;
  readonly #offset: number;

  /** @param offset Gemma multiplies by 1 + weight */
  constructor(size: number, options: { eps: number; offset?: number }) {
    super();
    this.weight = new Parameter([size]);
    this.#eps = options.eps;
    this.#offset = options.offset ?? 0;
  }

  forward(x: Value): Value {
    return rmsNorm(x, this.weight, { eps: this.#eps, offset: this.#offset });
  }
}

export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias?: Parameter;
  readonly #eps: number;

  constructor(size: number, options: { eps: number; bias?: boolean }) {
    super();
    this.weight = new Parameter([size]);
    if (options.bias ?? true) this.bias = new Parameter([size]);
    this.#eps = options.eps;
  }

  forward(x: Value): Value {
    return layerNorm(x, this.weight, this.bias, { eps: this.#eps });
  }
}
