/** A model as the library loads it, with its programs at hand: items through their encoder, a prompt through the text program. */
import { ModelConfig } from '../../dist/config';
import { chooseDevice } from '../../dist/engine/device';
import { programTexts } from '../../dist/engine/item-size';
import { ItemMapper, type EncodableItem } from '../../dist/engine/items';
import { featureRowsOf } from '../../dist/engine/loaded-model';
import { weightFormat } from '../../dist/engine/memory-plan';
import { openWeights } from '../../dist/engine/open-weights';
import { processInput, type ProcessedInputs } from '../../dist/engine/submission';
import { InputContext, MULTIMODAL_REGISTRY } from '../../dist/index';
import type { ModelHooksOfClass, PlacedItem, PromptPositions } from '../../dist/models/hooks';
import '../../dist/models/registry';
import { loadNative, type ModelHandle, type NativeTensor, type RunResult } from '../../dist/native';
import { traceModel, type TracedModel } from '../../dist/nn';
import { Tokenizer } from '../../dist/tokenizer';

export interface Setting {
  /** `ref`, `cpu`, one instruction set of cpu, or `cuda`. */
  backend: string;
  dtype: 'float32' | 'bfloat16';
  quantization?: 'int8' | 'int4';
  threads: number;
}

/** An item behind its encoder. */
export interface EncodedItem extends EncodableItem {
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
    private readonly mapper: ItemMapper,
  ) {}

  static async load(path: string, setting: Setting): Promise<GoldenModel> {
    const { dtype, quantization = 'none' } = setting;
    const config = await ModelConfig.load(path, { dtype, quantization });
    MULTIMODAL_REGISTRY.initMmLimitsPerPrompt(config);
    const traced = traceModel(config.modelClass as never, config.hfConfig, config.dtype);
    const native = loadNative();
    const { checkpoint, places } = await openWeights(native, config.source, traced);
    const handle = await native.createModel(checkpoint, {
      programs: programTexts(traced),
      ...places,
      ...weightFormat(config),
      backend: setting.backend === 'cuda' ? (await chooseDevice(native, 'cuda')).backend : setting.backend,
      threads: setting.threads,
    });
    const mapper = new ItemMapper(config, traced, featureRowsOf(native, handle, traced), 0);
    return new GoldenModel(setting, config, traced, await Tokenizer.load(config.source), handle, mapper);
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
  async expand(
    promptTokenIds: readonly number[],
    prompt: string | null,
    addSpecialTokens: boolean,
    data: Data,
    kwargs: Record<string, unknown>,
  ): Promise<ProcessedInputs> {
    const segments = prompt === null ? undefined : this.tokenizer.segments(prompt, { addSpecialTokens });
    return processInput(this.config, this.tokenizer, {
      promptTokenIds,
      ...(prompt === null ? {} : { prompt }),
      ...(segments ? { segments } : {}),
      multiModalData: data,
      mmProcessorKwargs: kwargs,
    });
  }

  /** Decoded items, as mappers and input processors see them. */
  async decode(data: Data): Promise<Data> {
    return (await MULTIMODAL_REGISTRY.loadData(data)) as Data;
  }

  /** Items as the engine takes them: mapped one by one, with the index arrays that the model prepares. */
  map(data: Data, kwargs: Record<string, unknown>): Promise<EncodableItem[]> {
    return this.mapper.map(data, kwargs);
  }

  async encode(item: EncodableItem): Promise<EncodedItem> {
    if (item.features) return { ...item, features: item.features, taps: {} };
    const { program, inputs, symbols } = item;
    const encoder = this.traced.encoders.filter((e) => e.program)[program - 1]!;
    const run = await this.run(program, inputs, symbols, Object.keys(encoder.program!.taps));
    return { ...item, features: run.outputs.features!, taps: run.taps };
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
      for (let n = item.rows; n > 0; n--) {
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
    const given = this.hooks.positions?.(this.context, ids, items);
    if (given) return given;
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
      if (row < prompt.length) return placement.positions[axis * prompt.length + row]!;
      const delta = typeof placement.delta === 'number' ? placement.delta : placement.delta[axis]!;
      return delta === null ? 0 : row + delta;
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
