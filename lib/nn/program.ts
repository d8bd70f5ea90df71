/** The program that tracing leaves: plain data, read by native/core/program.cc. */

/** A number, or a sum of symbol * mul / div plus a constant. */
export type DimJson = number | { c?: number; terms: { sym: string; mul?: number; div?: number }[] };

export type ProgramDType = 'act' | 'f32' | 'i32';

export interface ProgramJson {
  name: string;
  /** T tokens, S sampled rows, F feature rows in the text program; whatever the encoder's inputs declare. */
  symbols: string[];
  values: ValueJson[];
  inputs: { name: string; kind: InputKind; value: number }[];
  weights: WeightJson[];
  /** Small tables that the model's configuration fixes (rope frequencies): part of the program, absent from checkpoints. */
  constants?: ConstantJson[];
  ops: OpJson[];
  outputs: Record<string, number>;
  /** Module path -> the value that module returned (the last call wins; further calls are `path#1` ...). */
  taps: Record<string, number>;
}

export type InputKind = 'data' | 'rowIndex' | 'cuSeqlens' | 'positions' | 'tokens';

export interface ValueJson {
  kind: 'input' | 'weight' | 'constant' | 'op' | 'slice' | 'reshape' | 'expand';
  dtype: ProgramDType;
  shape: DimJson[];
  /** slice, reshape, expand: the value that is viewed. */
  of?: number;
  dim?: number;
  start?: DimJson;
  path?: string;
}

export interface WeightJson {
  name: string;
  /** As in the checkpoint, parts joined. A linear weight of rank > 2 ([out, channels, kh, kw]) is packed as [out, channels * kh * kw]. */
  shape: number[];
  /** Packed for `linear`; otherwise plain rows. */
  linear?: boolean;
  /** Parameter names joined along dimension 0, each [rows_i, ...]; absent: [name]. */
  parts?: string[];
  value: number;
}

/** Row-major; the shape is the value's, dtype f32 or i32. A float32 prints as the shortest decimal that reads back as itself. */
export interface ConstantJson {
  value: number;
  data: number[];
}

export interface OpJson {
  op: string;
  in: (number | null)[];
  out: number[];
  attrs?: Record<string, number | string | number[]>;
  path: string;
}
