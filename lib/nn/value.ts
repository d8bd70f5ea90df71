import { symbolicError, shapeText, type Dim } from './dim';
import type { InputKind, ProgramDType } from './program';
import type { Parameter } from './module';

/** Where a value comes from. */
export type Source =
  | { kind: 'input'; name: string; inputKind: InputKind; side: 'text' | 'encoder' }
  | { kind: 'weight'; parts: readonly Parameter[]; linear: boolean }
  | { kind: 'constant'; data: readonly number[] }
  | { kind: 'op'; index: number }
  | { kind: 'slice'; of: Value; dim: number; start: Dim }
  | { kind: 'reshape'; of: Value }
  | { kind: 'expand'; of: Value };

/**
 * A tensor that does not exist yet: what a model's forward works on while it is traced. It has a shape and a dtype, no numbers;
 * functions of ocelli/nn make new ones of it.
 */
export class Value {
  /** @internal */
  constructor(
    readonly id: number,
    readonly shape: readonly Dim[],
    readonly dtype: ProgramDType,
    readonly source: Source,
    readonly path: string,
  ) {}

  get rank(): number {
    return this.shape.length;
  }

  /** A dimension; negative ones count from the end. */
  dim(i: number): Dim {
    return this.shape[i < 0 ? this.shape.length + i : i]!;
  }

  toString(): string {
    return `%${this.id}: ${this.dtype}${shapeText(this.shape)}`;
  }

  valueOf(): number {
    throw symbolicError(`the tensor ${this.toString()}`);
  }

  [Symbol.toPrimitive](hint: string): string {
    if (hint === 'string') return this.toString();
    throw symbolicError(`the tensor ${this.toString()}`);
  }
}
