import type { ModelDType } from '../config';
import { OcelliError } from '../errors';
import { callerLine } from './caller';
import type { Dim } from './dim';
import type { Module, Parameter } from './module';
import type { InputKind, ProgramDType } from './program';
import { Value, type Source } from './value';

export type Attrs = Record<string, number | string | number[]>;

export interface TracedOp {
  op: string;
  inputs: (Value | null)[];
  outputs: Value[];
  attrs: Attrs;
  path: string;
}

/** What crosses the border: an encoder's output, in the order of columns in a feature row. */
export interface Border {
  modality: string;
  /** Undefined in a form without items. */
  features: Value | undefined;
  width: number;
}

let current: Tracer | undefined;

/** The tracer at work; ops called outside a trace are a mistake of their author. */
export function tracer(): Tracer {
  if (current) return current;
  throw new OcelliError(
    'ERR_NO_TRACE',
    `Expected a call from a model's forward at ${callerLine()} but no model is being traced`,
    {
      hint: 'Functions of ocelli/nn record ops of a program; call them in forward only.',
    },
  );
}

function setCurrent(next: Tracer | undefined): Tracer | undefined {
  const previous = current;
  current = next;
  return previous;
}

/** Records the ops that one run of forward makes. */
export class Tracer {
  readonly values: Value[] = [];
  readonly ops: TracedOp[] = [];
  readonly taps = new Map<string, Value>();
  readonly borders: Border[] = [];
  /** The text program's side of the border: columns of its feature rows. */
  readonly slots: Value[] = [];
  readonly placeholders = new Map<string, number>();
  /** Modality -> all its features, [rows, width of a feature row]. */
  readonly encoderOutputs = new Map<string, Value>();
  /** Layer index of each attention module, in the order of first calls. */
  readonly kvLayers = new Map<object, number>();
  readonly kvShapes: { heads: number; headDimK: number; headDimV: number }[] = [];
  private readonly weights = new Map<string, Value>();
  private readonly constants = new Map<string, Value>();
  private readonly textInputs = new Map<string, Value>();
  private readonly stack: string[] = [];
  private readonly calls = new Map<string, number>();
  private nextParameter = 0;
  private readonly parameterIds = new Map<Parameter, number>();

  constructor(readonly dtype: ModelDType) {}

  get path(): string {
    return this.stack[this.stack.length - 1] ?? '';
  }

  /** Runs `body` with this tracer, every module below `root` reporting its path and what it returned. */
  run<T>(root: Module, body: () => T): T {
    const modules = root.namedModules();
    for (const [name, parameter] of root.namedParameters()) parameter.name = name;
    const previous = setCurrent(this);
    // An own property shadows the class's method for the time of the trace: authors call `this.mlp.forward(x)` as they would
    // anywhere, and the path comes for free.
    const shadowed: [Module, PropertyDescriptor | undefined][] = [];
    for (const [path, module] of modules) {
      const forward = module.forward.bind(module);
      shadowed.push([module, Object.getOwnPropertyDescriptor(module, 'forward')]);
      Object.defineProperty(module, 'forward', {
        configurable: true,
        enumerable: false,
        value: (...args: unknown[]) => this.call(path, () => (forward as (...a: unknown[]) => unknown)(...args)),
      });
    }
    try {
      return body();
    } finally {
      setCurrent(previous);
      for (const [module, own] of shadowed) {
        if (own) Object.defineProperty(module, 'forward', own);
        else delete (module as Partial<Module>).forward;
      }
    }
  }

  private call(path: string, body: () => unknown): unknown {
    this.stack.push(path);
    try {
      const result = body();
      if (result instanceof Value && path !== '') this.tap(path, result);
      return result;
    } finally {
      this.stack.pop();
    }
  }

  /** Names a value for tests and golden comparisons; a name used again gets `#1`, `#2` ... */
  tap(name: string, value: Value): void {
    const n = this.calls.get(name) ?? 0;
    this.calls.set(name, n + 1);
    this.taps.set(n === 0 ? name : `${name}#${n}`, value);
  }

  newValue(shape: readonly Dim[], dtype: ProgramDType, source: Source): Value {
    const value = new Value(this.values.length, Object.freeze([...shape]), dtype, source, this.path);
    this.values.push(value);
    return value;
  }

  op(
    op: string,
    inputs: (Value | null)[],
    outputs: { shape: readonly Dim[]; dtype?: ProgramDType }[],
    attrs: Attrs = {},
  ): Value[] {
    for (const v of inputs) if (v) this.own(v, op);
    const made = outputs.map((o) => this.newValue(o.shape, o.dtype ?? 'act', { kind: 'op', index: this.ops.length }));
    this.ops.push({ op, inputs, outputs: made, attrs, path: this.path });
    return made;
  }

  /** True for values made of feature rows: the text program computes them. */
  isTextSide(value: Value): boolean {
    const seen = new Set<Value>();
    const visit = (v: Value): boolean => {
      if (seen.has(v)) return false;
      seen.add(v);
      const s = v.source;
      if (s.kind === 'input') return s.name === 'features' && s.side === 'text';
      if (s.kind === 'op') return this.ops[s.index]!.inputs.some((i) => i !== null && visit(i));
      return 'of' in s && visit(s.of);
    };
    return visit(value);
  }

  /** Values of an earlier trace (kept in an attribute, say) have no place in this one. */
  own(value: Value, op: string): void {
    if (this.values[value.id] === value) return;
    throw new OcelliError(
      'ERR_TRACE',
      `Expected a value of this trace for ${op} at ${callerLine()} but received one of another trace`,
      {
        hint: 'Do not keep values in attributes between calls of forward.',
      },
    );
  }

  input(
    name: string,
    shape: readonly Dim[],
    dtype: ProgramDType,
    inputKind: InputKind,
    side: 'text' | 'encoder',
  ): Value {
    return this.newValue(shape, dtype, { kind: 'input', name, inputKind, side });
  }

  /** An input of the text program that an op needs, made at its first use (features, featureRows, sampleRows). */
  textInput(name: string, make: () => Value): Value {
    let value = this.textInputs.get(name);
    if (!value) this.textInputs.set(name, (value = make()));
    return value;
  }

  weight(parts: readonly Parameter[], linear: boolean, shape: readonly number[]): Value {
    const key = `${linear ? 'linear' : 'plain'}:${parts.map((p) => this.parameterId(p)).join(',')}`;
    let value = this.weights.get(key);
    if (!value) {
      for (const p of parts) {
        if (p.name === '') {
          throw new OcelliError(
            'ERR_PARAMETER',
            `Expected a parameter that is an attribute of the model at ${callerLine()} but received one that no attribute leads to`,
          );
        }
      }
      this.weights.set(key, (value = this.newValue(shape, 'act', { kind: 'weight', parts, linear })));
    }
    return value;
  }

  constant(data: readonly number[], shape: readonly number[], dtype: 'f32' | 'i32'): Value {
    const key = `${dtype}[${shape.join(',')}]${data.join(',')}`;
    let value = this.constants.get(key);
    if (!value) this.constants.set(key, (value = this.newValue(shape, dtype, { kind: 'constant', data })));
    return value;
  }

  private parameterId(p: Parameter): number {
    let id = this.parameterIds.get(p);
    if (id === undefined) this.parameterIds.set(p, (id = this.nextParameter++));
    return id;
  }
}
