import { OcelliError } from '../errors';
import { callerLine } from './caller';
import type { DimJson } from './program';

/** One dimension: a number, or a linear form over symbols that the engine binds (T tokens, N pictures). */
export type Dim = number | SymbolicDim;

interface Term {
  sym: string;
  mul: number;
  div: number;
}

/**
 * A size that is known only when a request runs: constant + sum of symbol * mul / div. It takes part in shapes, not in
 * JavaScript's arithmetic or comparisons, which would freeze one request's size into the program.
 */
export class SymbolicDim {
  private constructor(
    readonly constant: number,
    readonly terms: readonly Term[],
  ) {}

  static of(name: string): SymbolicDim {
    return new SymbolicDim(0, [{ sym: name, mul: 1, div: 1 }]);
  }

  /** The form, or a plain number where no symbol is left. */
  static make(constant: number, terms: readonly Term[]): Dim {
    const merged = new Map<string, Term>();
    for (const t of terms) {
      const seen = merged.get(t.sym);
      merged.set(
        t.sym,
        seen ? reduce({ sym: t.sym, mul: seen.mul * t.div + t.mul * seen.div, div: seen.div * t.div }) : reduce(t),
      );
    }
    const left = [...merged.values()].filter((t) => t.mul !== 0).sort((a, b) => (a.sym < b.sym ? -1 : 1));
    return left.length === 0 ? constant : new SymbolicDim(constant, left);
  }

  get symbols(): string[] {
    return this.terms.map((t) => t.sym);
  }

  toString(): string {
    const parts = this.terms.map((t) => `${t.mul === 1 ? '' : `${t.mul}*`}${t.sym}${t.div === 1 ? '' : `/${t.div}`}`);
    if (this.constant !== 0) parts.push(String(this.constant));
    return parts.join(' + ');
  }

  toJSON(): DimJson {
    return {
      ...(this.constant === 0 ? {} : { c: this.constant }),
      terms: this.terms.map((t) => ({
        sym: t.sym,
        ...(t.mul === 1 ? {} : { mul: t.mul }),
        ...(t.div === 1 ? {} : { div: t.div }),
      })),
    };
  }

  valueOf(): number {
    throw symbolicError(`the size ${this.toString()}`);
  }

  [Symbol.toPrimitive](hint: string): string {
    if (hint === 'string') return this.toString();
    throw symbolicError(`the size ${this.toString()}`);
  }
}

/** What arithmetic or a comparison on a traced quantity throws. */
export function symbolicError(what: string): OcelliError {
  return new OcelliError(
    'ERR_SYMBOLIC',
    `Expected a number for arithmetic or a comparison at ${callerLine()} but received ${what}, which is known only when a request runs`,
    {
      hint: 'Use the functions of ocelli/nn (addDim, mulDim, divDim, sameDim for sizes), or decide by the configuration.',
    },
  );
}

function reduce(t: Term): Term {
  const g = gcd(Math.abs(t.mul), t.div) || 1;
  return { sym: t.sym, mul: t.mul / g, div: t.div / g };
}

function gcd(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}

function termsOf(d: Dim): readonly Term[] {
  return typeof d === 'number' ? [] : d.terms;
}

function constantOf(d: Dim): number {
  return typeof d === 'number' ? d : d.constant;
}

export function addDim(a: Dim, b: Dim): Dim {
  return SymbolicDim.make(constantOf(a) + constantOf(b), [...termsOf(a), ...termsOf(b)]);
}

export function subDim(a: Dim, b: Dim): Dim {
  return addDim(a, mulDim(b, -1));
}

/** One factor must be a number: sizes are linear in the symbols. */
export function mulDim(a: Dim, b: Dim): Dim {
  if (typeof a !== 'number' && typeof b !== 'number') {
    throw new OcelliError(
      'ERR_DIM',
      `Expected a number for one factor of ${String(a)} times ${String(b)} at ${callerLine()} but both are symbolic`,
      {
        hint: 'Declare a symbol of its own for the product in static inputs, bound by an index array or by another input.',
      },
    );
  }
  const [n, d] = typeof a === 'number' ? [a, b] : [b as number, a];
  return SymbolicDim.make(
    n * constantOf(d),
    termsOf(d).map((t) => ({ ...t, mul: t.mul * n })),
  );
}

/** Exact division: a constant part must be a multiple of n; symbols are checked when they are bound. */
export function divDim(a: Dim, n: number): Dim {
  if (!Number.isInteger(n) || n <= 0)
    throw new OcelliError('ERR_DIM', `Expected a positive integer for the divisor but received ${n}`);
  if (constantOf(a) % n !== 0)
    throw new OcelliError(
      'ERR_DIM',
      `Expected a multiple of ${n} but received the size ${String(a)} at ${callerLine()}`,
    );
  return SymbolicDim.make(
    constantOf(a) / n,
    termsOf(a).map((t) => ({ ...t, div: t.div * n })),
  );
}

export function sameDim(a: Dim, b: Dim): boolean {
  if (typeof a === 'number' || typeof b === 'number') return a === b;
  return a.toString() === b.toString();
}

export function sameShape(a: readonly Dim[], b: readonly Dim[]): boolean {
  return a.length === b.length && a.every((d, i) => sameDim(d, b[i]!));
}

export function productOf(dims: readonly Dim[]): Dim {
  return dims.reduce<Dim>((a, b) => mulDim(a, b), 1);
}

export function shapeText(shape: readonly Dim[]): string {
  return `[${shape.map(String).join(', ')}]`;
}

export function dimToJson(d: Dim): DimJson {
  return typeof d === 'number' ? d : d.toJSON();
}
