/** One function per row of native/core/ops.def: checks shapes where they are known and records the op. */
import { OcelliError } from '../errors';
import { callerLine } from './caller';
import { addDim, divDim, productOf, sameDim, sameShape, shapeText, type Dim } from './dim';
import { Parameter } from './module';
import type { ProgramDType } from './program';
import { tracer, type Attrs } from './tracer';
import { Value } from './value';
import { axis, reshape } from './views';

export type Activation = 'gelu' | 'gelu_tanh' | 'quick_gelu' | 'silu' | 'relu' | 'tanh';
/** At most one of the two. */
export interface LinearOptions {
  act?: Activation;
  gate?: Activation;
}
const activations: readonly string[] = ['gelu', 'gelu_tanh', 'quick_gelu', 'silu', 'relu', 'tanh'];

/** An operand: a value, or a parameter of the model read as plain rows. */
export type Operand = Value | Parameter;

function operand(x: Operand, op: string, name: string): Value {
  if (x instanceof Value) return x;
  if (x instanceof Parameter) return tracer().weight([x], false, x.shape);
  throw new OcelliError(
    'ERR_OPERAND',
    `Expected a value or a parameter for ${name} of ${op} at ${callerLine()} but received ${x === null ? 'null' : typeof x}`,
    {
      hint: x === undefined ? 'An input that the traced form does not carry is undefined in forward.' : undefined,
    },
  );
}

function shapeError(op: string, name: string, expected: string, received: Value): OcelliError {
  return new OcelliError(
    'ERR_SHAPE',
    `Expected ${expected} for ${name} of ${op} at ${callerLine()} but received ${received.toString()}`,
    {
      details: { op, path: tracer().path },
    },
  );
}

function expectDtype(x: Value, dtype: ProgramDType, op: string, name: string): void {
  const floating = dtype === 'act' && (x.dtype === 'act' || x.dtype === 'f32');
  if (x.dtype !== dtype && !floating) throw shapeError(op, name, `${dtype} elements`, x);
}

function activation(kind: string, op: string): string {
  if (activations.includes(kind)) return kind;
  throw new OcelliError(
    'ERR_ACTIVATION',
    `Expected one of ${activations.join(', ')} for the activation of ${op} at ${callerLine()} but received '${kind}'`,
  );
}

/**
 * y = act(x w^T + bias), x [.., K]; several weights are joined along their rows, in one product. A kernel [out, c, kh, kw] is read as
 * [out, c * kh * kw]. With a gate, the first half of y's columns goes through it and is multiplied by the second half, as gatedAct does:
 * [.., N / 2].
 */
export function linear(
  x: Value,
  weight: Parameter | readonly Parameter[],
  bias?: Parameter | readonly Parameter[],
  options: LinearOptions = {},
): Value {
  const t = tracer();
  const weights = weight instanceof Parameter ? [weight] : [...weight];
  expectDtype(operand(x, 'linear', 'x'), 'act', 'linear', 'x');
  const k = weights[0]!.shape.slice(1).reduce((a, b) => a * b, 1);
  for (const w of weights) {
    if (w.shape.length < 2 || w.shape.slice(1).reduce((a, b) => a * b, 1) !== k) {
      throw new OcelliError(
        'ERR_SHAPE',
        `Expected weights [rows, ${k}] for linear at ${callerLine()} but received [${w.shape.join(', ')}] (${w.name})`,
      );
    }
  }
  if (x.rank === 0 || !sameDim(x.dim(-1), k))
    throw shapeError('linear', 'x', `a last dimension of ${k} (the columns of ${weights[0]!.name})`, x);
  const n = weights.reduce((sum, w) => sum + w.shape[0]!, 0);
  let b: Value | null = null;
  if (bias !== undefined) {
    const biases = bias instanceof Parameter ? [bias] : [...bias];
    if (
      biases.length !== weights.length ||
      biases.some((p, i) => p.shape.length !== 1 || p.shape[0] !== weights[i]!.shape[0])
    ) {
      throw new OcelliError(
        'ERR_SHAPE',
        `Expected one bias [rows] for each weight of linear at ${callerLine()} but received ${biases.map((p) => `[${p.shape.join(', ')}]`).join(', ')}`,
      );
    }
    b = t.weight(biases, false, [n]);
  }
  const { act, gate } = options;
  if (gate !== undefined && (act !== undefined || n % 2 !== 0)) {
    throw new OcelliError(
      'ERR_OPERAND',
      `Expected an even number of rows and no act beside the gate of linear at ${callerLine()} but received ${n} rows and act ${String(act)}`,
    );
  }
  const attrs: Attrs = {};
  if (act !== undefined) attrs.act = activation(act, 'linear');
  if (gate !== undefined) attrs.gate = activation(gate, 'linear');
  const shape = [...x.shape.slice(0, -1), gate === undefined ? n : n / 2];
  return t.op('linear', [x, t.weight(weights, true, [n, k]), b], [{ shape }], attrs)[0]!;
}

/** Rows of a table [R, D] by index [M]; -1 gives a row of zeros. */
export function gatherRows(table: Operand, index: Value): Value {
  const rows = operand(table, 'gatherRows', 'table');
  expectDtype(operand(index, 'gatherRows', 'index'), 'i32', 'gatherRows', 'index');
  if (rows.rank !== 2) throw shapeError('gatherRows', 'table', 'a shape [rows, width]', rows);
  if (index.rank !== 1) throw shapeError('gatherRows', 'index', 'a shape [rows]', index);
  return tracer().op('gather_rows', [rows, index], [{ shape: [index.shape[0]!, rows.shape[1]!] }])[0]!;
}

/** x with row index[i] replaced by (or, with add, increased by) rows[i]. */
export function scatterRows(x: Value, index: Value, rows: Value, options: { add?: boolean } = {}): Value {
  expectDtype(operand(x, 'scatterRows', 'x'), 'act', 'scatterRows', 'x');
  expectDtype(operand(index, 'scatterRows', 'index'), 'i32', 'scatterRows', 'index');
  if (x.rank !== 2) throw shapeError('scatterRows', 'x', 'a shape [rows, width]', x);
  if (rows.rank !== 2 || !sameDim(rows.shape[1]!, x.shape[1]!) || !sameDim(rows.shape[0]!, index.shape[0]!)) {
    throw shapeError('scatterRows', 'rows', shapeText([index.shape[0]!, x.shape[1]!]), rows);
  }
  return tracer().op('scatter_rows', [x, index, rows], [{ shape: x.shape }], options.add ? { add: 1 } : {})[0]!;
}

/** x / sqrt(mean(x^2) + eps) * (offset + weight). */
export function rmsNorm(x: Value, weight: Operand, options: { eps: number; offset?: number }): Value {
  const w = operand(weight, 'rmsNorm', 'weight');
  checkNorm('rmsNorm', operand(x, 'rmsNorm', 'x'), w);
  const attrs: Attrs = { eps: finite(options.eps, 'eps', 'rmsNorm') };
  if (options.offset) attrs.offset = options.offset;
  return tracer().op('rms_norm', [x, w], [{ shape: x.shape }], attrs)[0]!;
}

export function layerNorm(x: Value, weight: Operand, bias: Operand | undefined, options: { eps: number }): Value {
  const w = operand(weight, 'layerNorm', 'weight');
  const b = bias === undefined ? null : operand(bias, 'layerNorm', 'bias');
  checkNorm('layerNorm', operand(x, 'layerNorm', 'x'), w);
  if (b) checkNorm('layerNorm', x, b);
  return tracer().op('layer_norm', [x, w, b], [{ shape: x.shape }], {
    eps: finite(options.eps, 'eps', 'layerNorm'),
  })[0]!;
}

function checkNorm(op: string, x: Value, w: Value): void {
  expectDtype(x, 'act', op, 'x');
  if (w.rank !== 1 || x.rank === 0 || !sameDim(x.dim(-1), w.shape[0]!))
    throw shapeError(op, 'weight', shapeText(x.shape.slice(-1)), w);
}

export interface RopeOptions {
  /** Dimensions rotated, from the front of each head. */
  rotary: number;
  style?: 'half' | 'pairs';
  /** Of cos and sin (yarn). */
  scale?: number;
  /** M-RoPE: frequencies per axis. */
  sections?: readonly number[];
  interleaved?: boolean;
}

/** Rotates x [T, heads, D] by positions [T] or [axes, T] times invFreq [rotary / 2]. */
export function rope(x: Value, positions: Value, invFreq: Value, options: RopeOptions): Value {
  expectDtype(operand(x, 'rope', 'x'), 'act', 'rope', 'x');
  expectDtype(operand(positions, 'rope', 'positions'), 'i32', 'rope', 'positions');
  if (x.rank !== 3) throw shapeError('rope', 'x', 'a shape [tokens, heads, headDim]', x);
  if (positions.rank < 1 || positions.rank > 2 || !sameDim(positions.dim(-1), x.shape[0]!)) {
    throw shapeError(
      'rope',
      'positions',
      `a shape [${String(x.shape[0])}] or [axes, ${String(x.shape[0])}]`,
      positions,
    );
  }
  const { rotary, style = 'half', scale, sections, interleaved } = options;
  const headDim = x.shape[2]!;
  if (
    !Number.isInteger(rotary) ||
    rotary <= 0 ||
    rotary % 2 !== 0 ||
    (typeof headDim === 'number' && rotary > headDim)
  ) {
    throw new OcelliError(
      'ERR_SHAPE',
      `Expected an even number of at most ${String(headDim)} for rotary of rope at ${callerLine()} but received ${rotary}`,
    );
  }
  if (!sameShape(invFreq.shape, [rotary / 2])) throw shapeError('rope', 'invFreq', `[${rotary / 2}]`, invFreq);
  if (positions.rank === 2) checkSections(positions, rotary, sections);
  const attrs: Attrs = { rotary, style };
  if (scale !== undefined && scale !== 1) attrs.scale = scale;
  if (sections) attrs.sections = [...sections];
  if (interleaved) attrs.interleaved = 1;
  return tracer().op('rope', [x, positions, invFreq], [{ shape: x.shape }], attrs)[0]!;
}

function checkSections(positions: Value, rotary: number, sections: readonly number[] | undefined): void {
  const sum = sections?.reduce((a, b) => a + b, 0);
  if (sameDim(positions.shape[0]!, sections?.length ?? 1) && (sections === undefined || sum === rotary / 2)) return;
  throw new OcelliError(
    'ERR_SHAPE',
    `Expected ${String(positions.shape[0])} sections that add up to ${rotary / 2} for rope at ${callerLine()} but received ${sections ? `[${sections.join(', ')}]` : 'none'}`,
    { hint: 'The configuration names them rope_scaling.mrope_section.' },
  );
}

/** Puts this step's keys and values [T, kvHeads, D] into the cache of `layer`. */
export function kvStore(k: Value, v: Value, layer: number): void {
  for (const [name, x] of [
    ['k', k],
    ['v', v],
  ] as const) {
    expectDtype(operand(x, 'kvStore', name), 'act', 'kvStore', name);
    if (x.rank !== 3) throw shapeError('kvStore', name, 'a shape [tokens, kvHeads, headDim]', x);
  }
  if (!sameShape(k.shape.slice(0, 2), v.shape.slice(0, 2)))
    throw shapeError('kvStore', 'v', shapeText([...k.shape.slice(0, 2), v.shape[2]!]), v);
  const t = tracer();
  t.kvShapes[layer] = {
    heads: fixed(k.shape[1]!, 'kvStore'),
    headDimK: fixed(k.shape[2]!, 'kvStore'),
    headDimV: fixed(v.shape[2]!, 'kvStore'),
  };
  t.op('kv_store', [k, v], [], { layer });
}

function fixed(d: Dim, op: string): number {
  if (typeof d === 'number') return d;
  throw new OcelliError(
    'ERR_SHAPE',
    `Expected a number for heads and head dimensions of ${op} at ${callerLine()} but received the size ${String(d)}`,
  );
}

export interface PagedAttentionOptions {
  layer: number;
  scale: number;
  /** Keys a row sees at most, its own included; absent: all before it. */
  window?: number;
  softcap?: number;
}

/** Queries [T, heads, Dk] over what `layer`'s cache holds of their sequences. */
export function attentionPaged(q: Value, options: PagedAttentionOptions): Value {
  expectDtype(operand(q, 'attentionPaged', 'q'), 'act', 'attentionPaged', 'q');
  if (q.rank !== 3) throw shapeError('attentionPaged', 'q', 'a shape [tokens, heads, headDim]', q);
  const kv = tracer().kvShapes[options.layer];
  if (!kv) {
    throw new OcelliError(
      'ERR_TRACE',
      `Expected kvStore of layer ${options.layer} before attentionPaged at ${callerLine()} but there is none`,
    );
  }
  const heads = fixed(q.shape[1]!, 'attentionPaged');
  if (heads % kv.heads !== 0)
    throw shapeError('attentionPaged', 'q', `a multiple of the ${kv.heads} kv heads as its heads`, q);
  if (!sameDim(q.shape[2]!, kv.headDimK))
    throw shapeError('attentionPaged', 'q', `the keys' head dimension ${kv.headDimK}`, q);
  const attrs: Attrs = { layer: options.layer, scale: finite(options.scale, 'scale', 'attentionPaged') };
  if (options.window) attrs.window = options.window;
  if (options.softcap) attrs.softcap = options.softcap;
  return tracer().op('attention_paged', [q], [{ shape: [q.shape[0]!, heads, kv.headDimV] }], attrs)[0]!;
}

/** Attention inside segments: [S, heads, D] with cuSeqlens [n + 1], or [B, L, heads, D] where each b is a segment. */
export function attentionVarlen(
  q: Value,
  k: Value,
  v: Value,
  options: { scale: number; cuSeqlens?: Value; causal?: boolean },
): Value {
  for (const [name, x] of [
    ['q', q],
    ['k', k],
    ['v', v],
  ] as const) {
    expectDtype(operand(x, 'attentionVarlen', name), 'act', 'attentionVarlen', name);
    if (x.rank !== (options.cuSeqlens ? 3 : 4)) {
      throw shapeError(
        'attentionVarlen',
        name,
        options.cuSeqlens ? 'a shape [rows, heads, headDim]' : 'a shape [batch, rows, heads, headDim]',
        x,
      );
    }
  }
  if (!sameShape(q.shape.slice(0, -2), k.shape.slice(0, -2)) || !sameDim(q.dim(-1), k.dim(-1)))
    throw shapeError('attentionVarlen', 'k', `rows and head dimension of ${shapeText(q.shape)}`, k);
  if (!sameShape(k.shape.slice(0, -1), v.shape.slice(0, -1)))
    throw shapeError('attentionVarlen', 'v', `rows and heads of ${shapeText(k.shape)}`, v);
  if (fixed(q.dim(-2), 'attentionVarlen') % fixed(k.dim(-2), 'attentionVarlen') !== 0)
    throw shapeError('attentionVarlen', 'q', `a multiple of the ${String(k.dim(-2))} kv heads as its heads`, q);
  if (options.cuSeqlens) expectDtype(options.cuSeqlens, 'i32', 'attentionVarlen', 'cuSeqlens');
  const attrs: Attrs = { scale: finite(options.scale, 'scale', 'attentionVarlen') };
  if (options.causal) attrs.causal = 1;
  // As the KV cache holds them, which is half the bytes of float32 where the model is in bfloat16.
  if (tracer().dtype === 'bfloat16') attrs.bf16 = 1;
  return tracer().op(
    'attention_varlen',
    [q, k, v, options.cuSeqlens ?? null],
    [{ shape: [...q.shape.slice(0, -1), v.dim(-1)] }],
    attrs,
  )[0]!;
}

export function act(x: Value, kind: Activation): Value {
  expectDtype(operand(x, 'act', 'x'), 'act', 'act', 'x');
  return tracer().op('act', [x], [{ shape: x.shape }], { kind: activation(kind, 'act') })[0]!;
}

/** kind(first half of the last dimension) times its second half. */
export function gatedAct(x: Value, kind: Activation): Value {
  expectDtype(operand(x, 'gatedAct', 'x'), 'act', 'gatedAct', 'x');
  return tracer().op('gated_act', [x], [{ shape: [...x.shape.slice(0, -1), divDim(x.dim(-1), 2)] }], {
    kind: activation(kind, 'gatedAct'),
  })[0]!;
}

/** a + b: b has a's shape, or its last dimensions, or is a number. */
export function add(a: Value, b: Operand | number): Value {
  return binary('add', a, b);
}

export function mul(a: Value, b: Operand | number): Value {
  return binary('mul', a, b);
}

function binary(op: 'add' | 'mul', a: Value, b: Operand | number): Value {
  expectDtype(operand(a, op, 'a'), 'act', op, 'a');
  if (typeof b === 'number') return tracer().op(op, [a], [{ shape: a.shape }], { value: finite(b, 'b', op) })[0]!;
  const right = operand(b, op, 'b');
  if (right.rank > a.rank || !sameShape(a.shape.slice(a.rank - right.rank), right.shape))
    throw shapeError(op, 'b', `${shapeText(a.shape)} or its last dimensions`, right);
  return tracer().op(op, [a, right], [{ shape: a.shape }])[0]!;
}

/** Joins values along one dimension; the other dimensions agree. */
export function concat(parts: readonly Operand[], dim = 0): Value {
  if (parts.length === 0)
    throw new OcelliError('ERR_OPERAND', `Expected at least one value for concat at ${callerLine()} but received none`);
  const values = parts.map((p, i) => operand(p, 'concat', `part ${i}`));
  const first = values[0]!;
  if (values.length === 1) return first;
  const d = axis(first, dim, 'concat');
  let size: Dim = 0;
  for (const [i, v] of values.entries()) {
    if (v.rank !== first.rank || v.shape.some((s, j) => j !== d && !sameDim(s, first.shape[j]!))) {
      throw shapeError('concat', `part ${i}`, `${shapeText(first.shape)} but for dimension ${d}`, v);
    }
    size = addDim(size, v.shape[d]!);
  }
  return tracer().op('concat', values, [{ shape: first.shape.map((s, j) => (j === d ? size : s)) }], { dim: d })[0]!;
}

/** Pictures [N, C, H, W] -> patch rows [N, gh * gw, C * patch * patch], each row channel by channel. */
export function patchify(x: Value, patch: number): Value {
  expectDtype(operand(x, 'patchify', 'x'), 'act', 'patchify', 'x');
  if (x.rank !== 4) throw shapeError('patchify', 'x', 'a shape [pictures, channels, height, width]', x);
  const [n, c, h, w] = x.shape as [Dim, Dim, Dim, Dim];
  const side = (d: Dim): Dim => (typeof d === 'number' ? Math.floor(d / patch) : divDim(d, patch));
  return tracer().op('patchify', [x], [{ shape: [n, productOf([side(h), side(w)]), productOf([c, patch * patch])] }], {
    patch,
  })[0]!;
}

/** A table that the configuration fixes. float32 numbers must be float32 already (Math.fround). */
export function constant(
  data: readonly number[],
  shape: readonly number[] = [data.length],
  dtype: 'f32' | 'i32' = 'f32',
): Value {
  if (shape.reduce((a, b) => a * b, 1) !== data.length) {
    throw new OcelliError(
      'ERR_SHAPE',
      `Expected ${shape.reduce((a, b) => a * b, 1)} numbers for a constant [${shape.join(', ')}] at ${callerLine()} but received ${data.length}`,
    );
  }
  for (const x of data) finite(x, 'an element', 'constant');
  return tracer().constant(dtype === 'f32' ? data.map(Math.fround) : data, shape, dtype);
}

/** Rows of a higher-rank value: all dimensions but the last joined. */
export function rowsOf(x: Value): Value {
  return x.rank === 2 ? x : reshape(x, [productOf(x.shape.slice(0, -1)), x.dim(-1)]);
}

function finite(x: number, name: string, op: string): number {
  if (typeof x === 'number' && Number.isFinite(x)) return x;
  throw new OcelliError(
    'ERR_OPERAND',
    `Expected a finite number for ${name} of ${op} at ${callerLine()} but received ${String(x)}`,
  );
}
