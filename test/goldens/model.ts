/** A model as the library loads it, with its programs at hand: items through their encoder, a prompt through the text program. */
import { findWeightFiles, ModelConfig } from '../../dist/config';
import { InputContext, INPUT_REGISTRY, MULTIMODAL_REGISTRY, Tensor } from '../../dist/index';
import type { MappedItem, ModelHooksOfClass, PlacedItem, PromptPositions } from '../../dist/models/hooks';
import '../../dist/models/registry';
import { loadNative, type ModelHandle, type NativeTensor, type RunResult } from '../../dist/native';
import { resolveWeightNames, traceModel, type TracedEncoder, type TracedModel } from '../../dist/nn';
import { Tokenizer } from '../../dist/tokenizer';

export interface Setting {
  /** `ref`, `cpu`, or one instruction set of cpu. */
  backend: string;
  dtype: 'float32' | 'bfloat16';
  threads: number;
}

/** An item behind its encoder. */
export interface EncodedItem extends MappedItem {
  /** [rows, width]. */
  features: NativeTensor;
  taps: Record<string, NativeTensor>;
}

export interface Forward {
  /** [rows, vocabulary] of every row of the prompt and of what was forced behind it. */
  logits: NativeTensor;
  taps: Record<string, NativeTensor>;
}

type Data = Record<string, unknown[]>;

export class GoldenModel {
  private constructor(
    readonly setting: Setting,
    readonly config: ModelConfig,
    readonly traced: TracedModel,
    readonly tokenizer: Tokenizer,
    private readonly handle: ModelHandle,
    /** Index of each encoder's program; absent: embeddings pass through. */
    private readonly programs: ReadonlyMap<TracedEncoder, number>,
  ) {}

  static async load(folder: string, setting: Setting): Promise<GoldenModel> {
    const config = await ModelConfig.load(folder, { dtype: setting.dtype });
    MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
    const traced = traceModel(config.modelClass as never, config.hfConfig);
    const programs = [traced.text];
    const indices = new Map<TracedEncoder, number>();
    for (const encoder of traced.encoders) {
      if (encoder.program) indices.set(encoder, programs.push(encoder.program) - 1);
    }
    const native = loadNative();
    const checkpoint = await native.openCheckpoint(await findWeightFiles(folder));
    const stored = native.checkpointTensors(checkpoint).map((t) => t.name);
    const handle = await native.createModel(checkpoint, {
      programs: programs.map((p) => JSON.stringify(p)),
      names: resolveWeightNames(programs, stored, traced.weightNames),
      dtype: setting.dtype === 'float32' ? 'f32' : 'bf16',
      backend: setting.backend,
      threads: setting.threads,
    });
    return new GoldenModel(setting, config, traced, await Tokenizer.load(folder), handle, indices);
  }

  dispose(): void {
    loadNative().disposeModel(this.handle);
  }

  private get hooks(): ModelHooksOfClass {
    return this.config.modelClass as unknown as ModelHooksOfClass;
  }

  private get context(): InputContext<ModelConfig> {
    return new InputContext(this.config);
  }

  /** The prompt's ids with placeholders expanded, and the spans of it that attend both ways. */
  async expand(promptTokenIds: readonly number[], prompt: string | null, data: Data, kwargs: Record<string, unknown>) {
    return INPUT_REGISTRY.processInput(this.config, {
      promptTokenIds,
      ...(prompt === null ? {} : { prompt }),
      multiModalData: data,
      mmProcessorKwargs: kwargs,
    });
  }

  /** Decoded items, as mappers and input processors see them. */
  async decode(data: Data): Promise<Data> {
    return (await MULTIMODAL_REGISTRY.loadData(data)) as Data;
  }

  /** One item alone: mapped, with the index arrays that the model prepares. */
  async map(modality: string, item: unknown, kwargs: Record<string, unknown>): Promise<MappedItem> {
    const mapped = await MULTIMODAL_REGISTRY.mapInput(this.config, { [modality]: [item] }, kwargs);
    const tensors: Record<string, Tensor> = {};
    for (const [name, value] of Object.entries(mapped)) {
      if (!('shape' in value)) throw new Error(`Expected one tensor for '${name}' of one item but received a list`);
      tensors[name] = this.fit(name, value as Tensor);
    }
    const prepared = this.hooks.prepare?.(this.context, { modality, tensors }) ?? {};
    for (const name of Object.keys(prepared)) if (!this.traced.inputs[name]) delete prepared[name];
    return { modality, tensors: { ...tensors, ...prepared } };
  }

  /** Without the dimension that counts items, where the declaration has none. */
  private fit(name: string, tensor: Tensor): Tensor {
    const spec = this.traced.inputs[name];
    if (!spec || tensor.shape.length !== spec.shape.length + 1 || tensor.shape[0] !== 1) return tensor;
    return new Tensor(tensor.dtype, tensor.shape.slice(1), tensor.data);
  }

  async encode(item: MappedItem): Promise<EncodedItem> {
    const { modality, tensors } = item;
    const encoder = this.traced.encoders.find((e) => e.modality === modality && e.form.every((n) => n in tensors));
    if (!encoder) throw new Error(`Expected a form of inputs that has ${Object.keys(tensors).join(', ')}`);
    if (!encoder.program) return { ...item, features: toNative(tensors[encoder.form[0]!]!), taps: {} };
    const inputs = Object.fromEntries(encoder.form.map((name) => [name, toNative(tensors[name]!)]));
    const taps = Object.keys(encoder.program.taps);
    const run = await this.run(this.programs.get(encoder)!, inputs, this.symbols(inputs), taps);
    return { ...item, features: run.outputs.features!, taps: run.taps };
  }

  private symbols(inputs: Record<string, NativeTensor>): Record<string, number> {
    const symbols: Record<string, number> = {};
    for (const [name, { shape }] of Object.entries(inputs)) {
      const declared = this.traced.inputs[name]!.shape;
      const fits =
        shape.length === declared.length &&
        declared.every((d, i) => (typeof d === 'number' ? d : (symbols[d] ??= shape[i]!)) === shape[i]);
      if (!fits) throw new Error(`Expected [${declared.join(', ')}] for '${name}' but received [${shape.join(', ')}]`);
    }
    return symbols;
  }

  /** Which ids of the expanded prompt stand for each item: item k owns the next of its modality's placeholders. */
  place(ids: readonly number[], items: readonly EncodedItem[]): PlacedItem[] {
    const next = new Map<string, number[]>();
    for (const [modality, token] of Object.entries(this.traced.placeholderTokenIds)) {
      next.set(modality, [...ids.keys()].filter((i) => ids[i] === token).reverse());
    }
    return items.map((item) => {
      const left = next.get(item.modality)!;
      const ranges: [number, number][] = [];
      for (let n = item.features.shape[0]!; n > 0; n--) {
        const row = left.pop();
        if (row === undefined) throw new Error(`Expected a placeholder for each of the ${item.modality} rows`);
        const last = ranges.at(-1);
        if (last && last[0] + last[1] === row) last[1]++;
        else ranges.push([row, 1]);
      }
      return { modality: item.modality, tensors: item.tensors, ranges };
    });
  }

  positions(ids: readonly number[], items: readonly PlacedItem[]): PromptPositions {
    if (items.length > 0 && this.hooks.positions) return this.hooks.positions(this.context, ids, items);
    const rows = Array.from({ length: this.traced.positionAxes }, () => [...ids.keys()]);
    return { positions: Int32Array.from(rows.flat()), delta: 0 };
  }

  /** Prompt and forced ids in one pass: rows of the prompt see nothing of what follows them. */
  async forward(
    prompt: readonly number[],
    forced: readonly number[],
    items: readonly EncodedItem[],
    placed: readonly PlacedItem[],
    placement: PromptPositions,
    spans: readonly (readonly [number, number])[] = [],
  ): Promise<Forward> {
    const T = prompt.length + forced.length;
    const axes = this.traced.positionAxes;
    const positions = Int32Array.from({ length: axes * T }, (_, i) => {
      const [axis, row] = [Math.floor(i / T), i % T];
      return row < prompt.length ? placement.positions[axis * prompt.length + row]! : row + placement.delta;
    });
    const hi = Int32Array.from({ length: T }, (_, i) => i + 1);
    for (const [start, length] of spans) hi.fill(start + length, start, start + length);
    const rows = placed.flatMap((p) =>
      p.ranges.flatMap(([start, n]) => Array.from({ length: n }, (_, i) => start + i)),
    );
    const features = Float32Array.from(items.flatMap((item) => [...(item.features.data as Float32Array)]));
    const given: Record<string, NativeTensor> = {
      inputIds: i32([T], [...prompt, ...forced]),
      positions: i32(axes === 1 ? [T] : [axes, T], positions),
      features: { dtype: 'f32', shape: [rows.length, this.traced.featureWidth], data: features },
      featureRows: i32([rows.length], rows),
      sampleRows: i32([T], [...Array(T).keys()]),
    };
    const named = Object.fromEntries(this.traced.text.inputs.map(({ name }) => [name, given[name]!]));
    const taps = Object.keys(this.traced.text.taps);
    const run = await this.run(0, { ...named, hi: i32([T], hi) }, { T, S: T, F: rows.length }, taps);
    return { logits: run.outputs.logits!, taps: run.taps };
  }

  private run(
    program: number,
    inputs: Record<string, NativeTensor>,
    symbols: Record<string, number>,
    taps: string[],
  ): Promise<RunResult> {
    const kvDtype = this.setting.dtype === 'float32' ? 'f32' : 'bf16';
    return loadNative().runProgram(this.handle, program, inputs, symbols, { taps, kvDtype });
  }
}

const i32 = (shape: number[], data: ArrayLike<number>): NativeTensor => ({
  dtype: 'i32',
  shape,
  data: Int32Array.from(data),
});

function toNative(tensor: Tensor): NativeTensor {
  const { dtype, data } = tensor;
  const shape = [...tensor.shape];
  if (dtype === 'float32') return { dtype: 'f32', shape, data };
  if (dtype === 'int32') return { dtype: 'i32', shape, data };
  if (dtype === 'int64') return i32(shape, Array.from(data as BigInt64Array, Number));
  throw new Error(`Expected float32 or an integer tensor from a mapper but received ${dtype}`);
}
