/** Cuts a program out of a trace: the backward slice of its outputs, renumbered. */
import { OcelliError } from '../errors';
import { dimToJson, sameDim, type Dim } from './dim';
import type { ConstantJson, OpJson, ProgramJson, ValueJson, WeightJson } from './program';
import type { TracedOp, Tracer } from './tracer';
import type { Value } from './value';

export interface EmitOptions {
  name: string;
  outputs: Record<string, Value>;
  /** Whose inputs the program may read. */
  side: 'text' | 'encoder';
  /** Symbols that the program lists even where no shape uses them. */
  symbols: readonly string[];
  /** Leaves out the ops that bring features in, to compare with a form that has none. */
  withoutFeatures?: boolean;
}

/** Ops with effects of their own: part of the text program though nothing reads their result. */
const effects = new Set(['kv_store']);
const textOnly = new Set(['kv_store', 'attention_paged']);

export function emitProgram(trace: Tracer, options: EmitOptions): ProgramJson {
  const skipped = (op: TracedOp): boolean =>
    options.withoutFeatures === true && op.op === 'scatter_rows' && isFeatureRows(op.inputs[1]);
  /** The value that stands for v: a slice of all of its source, or a skipped op's operand, is that itself. */
  const resolve = (v: Value): Value => {
    for (;;) {
      const s = v.source;
      if (s.kind === 'slice' && sameDim(s.start, 0) && sameDim(v.shape[s.dim]!, s.of.shape[s.dim]!)) v = s.of;
      else if (s.kind === 'op' && skipped(trace.ops[s.index]!)) v = trace.ops[s.index]!.inputs[0]!;
      else return v;
    }
  };

  const keep = new Set<Value>();
  const keepOps = new Set<number>();
  const visitOp = (index: number): void => {
    if (keepOps.has(index)) return;
    keepOps.add(index);
    const op = trace.ops[index]!;
    if (options.side === 'encoder' && textOnly.has(op.op)) throw crossing(options, op, `runs ${op.op}`);
    for (const v of op.inputs) if (v) visit(v, op);
    for (const v of op.outputs) keep.add(v);
  };
  const visit = (value: Value, reader?: TracedOp): void => {
    const v = resolve(value);
    if (keep.has(v)) return;
    keep.add(v);
    const s = v.source;
    if (s.kind === 'input' && s.side !== options.side) throw crossing(options, reader, `reads ${s.name}`);
    if (s.kind === 'op') visitOp(s.index);
    else if ('of' in s) visit(s.of, reader);
  };
  for (const v of Object.values(options.outputs)) visit(v);
  if (options.side === 'text') trace.ops.forEach((op, i) => effects.has(op.op) && visitOp(i));

  return write(
    trace,
    options,
    resolve,
    [...keep].sort((a, b) => a.id - b.id),
    [...keepOps].sort((a, b) => a - b),
  );
}

function write(
  trace: Tracer,
  options: EmitOptions,
  resolve: (v: Value) => Value,
  kept: Value[],
  keptOps: number[],
): ProgramJson {
  const number = new Map(kept.map((v, i) => [v, i]));
  const idOf = (v: Value): number => number.get(resolve(v))!;
  const symbols = new Set(options.symbols);
  const dim = (d: Dim): ReturnType<typeof dimToJson> => {
    if (typeof d !== 'number') for (const s of d.symbols) symbols.add(s);
    return dimToJson(d);
  };
  const inputs: ProgramJson['inputs'] = [];
  const weights: WeightJson[] = [];
  const constants: ConstantJson[] = [];
  const values = kept.map((v, id): ValueJson => {
    const s = v.source;
    const json: ValueJson = { kind: s.kind, dtype: v.dtype, shape: v.shape.map(dim) };
    if (s.kind === 'input') inputs.push({ name: s.name, kind: s.inputKind, value: id });
    if (s.kind === 'constant') constants.push({ value: id, data: [...s.data] });
    if (s.kind === 'weight') weights.push(weightJson(s.parts, s.linear, id));
    if ('of' in s) json.of = idOf(s.of);
    if (s.kind === 'slice') {
      json.dim = s.dim;
      json.start = dim(s.start);
    }
    if (v.path !== '' && s.kind !== 'weight' && s.kind !== 'constant' && s.kind !== 'input') json.path = v.path;
    return json;
  });
  const ops = keptOps.map((i): OpJson => {
    const op = trace.ops[i]!;
    return {
      op: op.op,
      in: op.inputs.map((v) => (v ? idOf(v) : null)),
      out: op.outputs.map(idOf),
      ...(Object.keys(op.attrs).length > 0 ? { attrs: op.attrs } : {}),
      path: op.path,
    };
  });
  const taps: Record<string, number> = {};
  for (const [name, v] of trace.taps) {
    const id = number.get(resolve(v));
    if (id !== undefined) taps[name] = id;
  }
  const outputs = Object.fromEntries(Object.entries(options.outputs).map(([name, v]) => [name, idOf(v)]));
  return {
    name: options.name,
    symbols: [...symbols],
    values,
    inputs,
    weights,
    ...(constants.length > 0 ? { constants } : {}),
    ops,
    outputs,
    taps,
  };
}

function weightJson(
  parts: readonly { name: string; shape: readonly number[] }[],
  linear: boolean,
  value: number,
): WeightJson {
  const [first] = parts;
  const shape = [parts.reduce((sum, p) => sum + p.shape[0]!, 0), ...first!.shape.slice(1)];
  return {
    name: joinedName(parts.map((p) => p.name)),
    shape,
    ...(linear ? { linear: true } : {}),
    ...(parts.length > 1 ? { parts: parts.map((p) => p.name) } : {}),
    value,
  };
}

/** 'a.q.weight', 'a.k.weight' -> 'a.{q,k}.weight'. */
function joinedName(names: readonly string[]): string {
  if (names.length === 1) return names[0]!;
  const parts = names.map((n) => n.split('.'));
  const shortest = Math.min(...parts.map((p) => p.length));
  let head = 0;
  while (head < shortest && parts.every((p) => p[head] === parts[0]![head])) head++;
  let tail = 0;
  while (
    tail < shortest - head &&
    parts.every((p) => p[p.length - 1 - tail] === parts[0]![parts[0]!.length - 1 - tail])
  )
    tail++;
  const middle = parts.map((p) => p.slice(head, p.length - tail).join('.')).join(',');
  return [...parts[0]!.slice(0, head), `{${middle}}`, ...parts[0]!.slice(parts[0]!.length - tail)].join('.');
}

function isFeatureRows(v: Value | null | undefined): boolean {
  return v?.source.kind === 'input' && v.source.name === 'featureRows';
}

function crossing(options: EmitOptions, op: TracedOp | undefined, what: string): OcelliError {
  const place = op ? `${op.op} in ${op.path === '' ? 'forward' : op.path}` : options.name;
  return options.side === 'encoder'
    ? new OcelliError(
        'ERR_TRACE_BORDER',
        `Expected the encoder (what the features are made of) to depend on the items' inputs only but ${place} ${what}, which belongs to the text`,
        {
          hint: 'Move the border: encoderOutput(v) marks where the encoder ends.',
        },
      )
    : new OcelliError(
        'ERR_TRACE_BORDER',
        `Expected the text model to see the items through mergeMultimodal, addMultimodal or encoderOutput only but ${place} ${what}`,
        {
          hint: 'Hand the features over with mergeMultimodal(x, inputIds, features, tokenId).',
        },
      );
}
