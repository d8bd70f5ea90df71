/** From a model class to programs: forward runs once per declared form on symbolic values. */
import type { ModelDType } from '../config';
import { OcelliError } from '../errors';
import { SymbolicDim, sameDim, type Dim } from './dim';
import { emitProgram } from './emit';
import { KvCache } from './kv-cache';
import { Module } from './module';
import { concat, gatherRows } from './ops';
import type { InputKind, ProgramDType, ProgramJson } from './program';
import { Tracer } from './tracer';
import { Value } from './value';
import type { WeightNameRule } from './weight-names';

/** One tensor that forward takes beside the text: as the input mapper gives it. */
export interface InputSpec {
  dtype: 'float32' | 'int32';
  /** Numbers, or names of symbols that each request binds. T, S and F are the engine's. */
  shape: readonly (number | string)[];
  /** How the engine joins several items: 'data' along dimension 0; indices are rebased. Default 'data'. */
  kind?: InputKind;
  /** rowIndex: the input whose rows are counted. */
  of?: string;
  modality?: string;
}

export type InputSpecs = Readonly<Record<string, InputSpec>>;

/** What forward receives: symbolic values; a tensor that the form lacks is undefined. */
export interface ForwardInputs {
  inputIds: Value;
  positions: Value;
  kvCaches: readonly KvCache[];
  attnMetadata: AttnMetadata;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- the model declares its own tensors
  [input: string]: any;
}

/** Which rows belong to which sequence: known to the engine; forward only hands it on. */
export class AttnMetadata {
  readonly kind = 'attnMetadata';
}

export interface ModelInstance extends Module {
  forward(inputs: ForwardInputs): Value;
  /** Hidden rows [S, D] of the rows that are sampled -> logits [S, V]. */
  computeLogits?(hidden: Value): Value;
}

/** A model's class and its static declarations. */
export interface TraceableClass {
  new (config: never): Module;
  inputs?(config: never): InputSpecs;
  /** Which tensors come together; default: all. */
  forms?: readonly (readonly string[])[];
  /** 1, or the number of rows of M-RoPE positions. */
  positionAxes?: number | ((config: never) => number);
  weightNames?: readonly WeightNameRule[];
}

export interface TracedEncoder {
  modality: string;
  /** The tensors of this form. */
  form: readonly string[];
  /** Null: the tensor `form[0]` is the encoder's output already (embeddings). */
  program: ProgramJson | null;
}

export interface TracedModel {
  text: ProgramJson;
  encoders: TracedEncoder[];
  inputs: InputSpecs;
  vocabSize: number;
  kvLayers: number;
  kvHeads: number;
  headDimK: number;
  headDimV: number;
  /** How far back every layer looks at most; 0 where some layer sees everything. */
  window: number;
  /** 0 for a text model. */
  featureWidth: number;
  positionAxes: number;
  placeholderTokenIds: Readonly<Record<string, number>>;
  /** Rules that lead from parameter names to the names of other checkpoint generations. */
  weightNames: readonly WeightNameRule[];
  /** Parameters that a checkpoint has the other way round, by name. */
  transposed: Readonly<Record<string, readonly [rows: number, columns: number]>>;
}

const reserved = new Set(['T', 'S', 'F']);

/** @param dtype of the model's activations: which products ops may round for */
export function traceModel(modelClass: TraceableClass, config: object, dtype: ModelDType = 'float32'): TracedModel {
  const given = config as never;
  const specs = modelClass.inputs?.(given) ?? {};
  checkSpecs(modelClass, specs);
  const model = new modelClass(given) as ModelInstance;
  if (!(model instanceof Module))
    throw new OcelliError(
      'ERR_MODEL_CLASS',
      `Expected a model class that extends Module but received ${modelClass.name}`,
    );
  const axes =
    typeof modelClass.positionAxes === 'function' ? modelClass.positionAxes(given) : (modelClass.positionAxes ?? 1);
  const forms = modelClass.forms ?? [Object.keys(specs)];
  const traces = forms.map((form) => traceForm(modelClass, model, specs, form, axes, dtype));

  const main = traces.find((t) => t.trace.slots.length > 0) ?? traces[0];
  if (!main)
    throw new OcelliError(
      'ERR_MODEL_CLASS',
      `Expected at least one form of inputs for ${modelClass.name} but static forms is empty`,
    );
  const text = emitText(main);
  for (const other of traces) if (other !== main) checkSameText(modelClass, main, other);

  const kv = kvGroup(modelClass, main.trace);
  return {
    text,
    encoders: traces.flatMap((t) => encodersOf(t)),
    inputs: specs,
    vocabSize: vocabularyOf(main),
    ...kv,
    window: widestWindow(text),
    featureWidth: featureWidth(main.trace),
    positionAxes: axes,
    placeholderTokenIds: Object.fromEntries(traces.flatMap((t) => [...t.trace.placeholders])),
    weightNames: modelClass.weightNames ?? [],
    transposed: transposedParameters(model),
  };
}

/** The width of the logits; without a head, the rows of the table that the ids choose from. */
function vocabularyOf({ trace, outputs }: FormTrace): number {
  const isIds = (v: Value | null): boolean => v?.source.kind === 'input' && v.source.name === 'inputIds';
  const table = trace.ops.find((op) => op.op === 'gather_rows' && op.inputs.some(isIds));
  const size = outputs.logits?.shape[1] ?? table?.inputs[0]?.shape[0];
  return typeof size === 'number' ? size : 0;
}

function transposedParameters(model: Module): TracedModel['transposed'] {
  const found: Record<string, readonly [number, number]> = {};
  for (const [name, { transposed }] of model.namedParameters()) if (transposed) found[name] = transposed;
  return found;
}

interface FormTrace {
  form: readonly string[];
  trace: Tracer;
  outputs: Record<string, Value>;
}

function traceForm(
  modelClass: TraceableClass,
  model: ModelInstance,
  specs: InputSpecs,
  form: readonly string[],
  axes: number,
  dtype: ModelDType,
): FormTrace {
  const trace = new Tracer(dtype);
  const T = SymbolicDim.of('T');
  const outputs = trace.run(model, (): Record<string, Value> => {
    const inputs: ForwardInputs = {
      inputIds: trace.input('inputIds', [T], 'i32', 'tokens', 'text'),
      positions: trace.input('positions', axes === 1 ? [T] : [axes, T], 'i32', 'positions', 'text'),
      kvCaches: KvCache.list(),
      attnMetadata: new AttnMetadata(),
    };
    for (const name of form) {
      const spec = specs[name];
      if (!spec)
        throw new OcelliError(
          'ERR_MODEL_CLASS',
          `Expected the inputs of ${modelClass.name}.forms to be declared by static inputs but '${name}' is not`,
        );
      const shape = spec.shape.map((d): Dim => (typeof d === 'string' ? SymbolicDim.of(d) : d));
      inputs[name] = trace.input(name, shape, dtypeOf(spec), spec.kind ?? 'data', 'encoder');
    }
    const hidden = model.forward(inputs);
    if (!(hidden instanceof Value)) {
      throw new OcelliError(
        'ERR_MODEL_CLASS',
        `Expected a value [tokens, width] from ${modelClass.name}.forward but received ${hidden === undefined ? 'undefined' : typeof hidden}`,
      );
    }
    if (hidden.rank !== 2 || !sameDim(hidden.shape[0]!, T)) {
      throw new OcelliError(
        'ERR_SHAPE',
        `Expected hidden rows [T, width] from ${modelClass.name}.forward but received ${hidden.toString()}`,
      );
    }
    // Encoders hand over one tensor: their outputs side by side.
    for (const [modality, parts] of modalities(trace)) {
      if (parts.length > 0) trace.encoderOutputs.set(modality, concat(parts, 1));
    }
    if (!model.computeLogits) return { hidden };
    const rows = trace.textInput('sampleRows', () =>
      trace.input('sampleRows', [SymbolicDim.of('S')], 'i32', 'rowIndex', 'text'),
    );
    const logits = model.computeLogits(gatherRows(hidden, rows));
    if (!(logits instanceof Value) || logits.rank !== 2 || typeof logits.shape[1] !== 'number') {
      throw new OcelliError(
        'ERR_SHAPE',
        `Expected logits [S, vocabulary] from ${modelClass.name}.computeLogits but received ${String(logits)}`,
      );
    }
    return { logits, hidden };
  });
  const features = trace.slots[0]?.source;
  // The width of a feature row is known only now that every border call has been seen.
  if (features?.kind === 'slice')
    (features.of as { shape: readonly Dim[] }).shape = [SymbolicDim.of('F'), featureWidth(trace)];
  return { form, trace, outputs };
}

function modalities(trace: Tracer): Map<string, Value[]> {
  const found = new Map<string, Value[]>();
  for (const b of trace.borders) {
    if (!found.has(b.modality)) found.set(b.modality, []);
    if (b.features) found.get(b.modality)!.push(b.features);
  }
  return found;
}

function featureWidth(trace: Tracer): number {
  return trace.slots.reduce((sum, s) => sum + (s.shape[1] as number), 0);
}

function emitText({ trace, outputs }: FormTrace, withoutFeatures = false): ProgramJson {
  const symbols = trace.slots.length > 0 && !withoutFeatures ? ['T', 'S', 'F'] : ['T', 'S'];
  return emitProgram(trace, { name: 'text', outputs, side: 'text', symbols, withoutFeatures });
}

function encodersOf({ form, trace }: FormTrace): TracedEncoder[] {
  return [...trace.encoderOutputs].map(([modality, features]) => {
    const program = emitProgram(trace, {
      name: `encoder:${modality}:${form.join('+')}`,
      outputs: { features },
      side: 'encoder',
      symbols: [],
    });
    return { modality, form, program: program.ops.length === 0 ? null : program };
  });
}

/** Every form must leave the same text program; one without items may lack the rows that bring features in. */
function checkSameText(modelClass: TraceableClass, main: FormTrace, other: FormTrace): void {
  const bare = other.trace.slots.length === 0 && main.trace.slots.length > 0;
  const [a, b] = [emitText(main, bare), emitText(other)].map((p) =>
    JSON.stringify({ ...p, taps: {}, values: p.values.map((v) => ({ ...v, path: '' })) }),
  );
  if (a === b) return;
  throw new OcelliError(
    'ERR_TRACE_FORMS',
    `Expected every form of ${modelClass.name} to leave the same text program but [${other.form.join(', ')}] and [${main.form.join(', ')}] differ`,
    {
      hint: 'What a picture changes in the text model goes through mergeMultimodal or addMultimodal.',
    },
  );
}

function kvGroup(
  modelClass: TraceableClass,
  trace: Tracer,
): Pick<TracedModel, 'kvLayers' | 'kvHeads' | 'headDimK' | 'headDimV'> {
  const [first] = trace.kvShapes;
  if (!first) return { kvLayers: 0, kvHeads: 0, headDimK: 0, headDimV: 0 };
  for (const [layer, s] of trace.kvShapes.entries()) {
    if (!s || s.heads !== first.heads || s.headDimK !== first.headDimK || s.headDimV !== first.headDimV) {
      throw new OcelliError(
        'ERR_TRACE',
        `Expected ${first.heads} kv heads of ${first.headDimK} in every layer of ${modelClass.name} but layer ${layer} has ${s ? `${s.heads} of ${s.headDimK}` : 'none'}`,
      );
    }
  }
  return { kvLayers: trace.kvShapes.length, kvHeads: first.heads, headDimK: first.headDimK, headDimV: first.headDimV };
}

function widestWindow(text: ProgramJson): number {
  const windows = text.ops.filter((op) => op.op === 'attention_paged').map((op) => Number(op.attrs?.window ?? 0));
  return windows.includes(0) ? 0 : Math.max(0, ...windows);
}

function dtypeOf(spec: InputSpec): ProgramDType {
  return spec.dtype === 'int32' ? 'i32' : 'act';
}

function checkSpecs(modelClass: TraceableClass, specs: InputSpecs): void {
  for (const [name, spec] of Object.entries(specs)) {
    const bad = (what: string): OcelliError =>
      new OcelliError('ERR_MODEL_CLASS', `Expected ${what} for the input '${name}' of ${modelClass.name}`);
    if (['inputIds', 'positions', 'kvCaches', 'attnMetadata', 'features', 'featureRows', 'sampleRows'].includes(name))
      throw bad('a name that the engine does not use');
    if (spec.dtype !== 'float32' && spec.dtype !== 'int32')
      throw bad(`dtype 'float32' or 'int32' but received '${String(spec.dtype)}'`);
    for (const d of spec.shape) {
      if (typeof d === 'number' ? !Number.isSafeInteger(d) || d <= 0 : !/^[A-Za-z]\w*$/.test(d))
        throw bad(`positive sizes or symbol names but received '${String(d)}'`);
      if (typeof d === 'string' && reserved.has(d))
        throw bad(`symbols other than T, S and F, which are the engine's, but received '${d}'`);
    }
    if (spec.kind === 'rowIndex' && (spec.of === undefined || !specs[spec.of]))
      throw bad(`'of' to name another input but received '${String(spec.of)}'`);
  }
}
