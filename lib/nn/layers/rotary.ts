import { OcelliError } from '../../errors';
import { Module } from '../module';
import { constant, rope } from '../ops';
import type { Value } from '../value';

/** The configuration's rope_scaling (or the rest of rope_parameters). */
export interface RopeScaling {
  rope_type?: string;
  /** Older spelling of rope_type. */
  type?: string;
  factor?: number;
  low_freq_factor?: number;
  high_freq_factor?: number;
  original_max_position_embeddings?: number;
  mrope_section?: readonly number[];
  /** Of rope_type 'factors': what each frequency is divided by. */
  factors?: readonly number[];
  /** Frequencies are dealt out to the axes in turn, not in runs (Qwen3-VL). */
  mrope_interleaved?: boolean;
  [field: string]: unknown;
}

export interface RotaryOptions {
  theta: number;
  /** Dimensions rotated; default: the whole head. */
  rotaryDim?: number;
  scaling?: RopeScaling | null;
  style?: 'half' | 'pairs';
  /** Positions are [axes, T] and each axis turns its part of the frequencies, which begin anew (2-D rope of vision towers). */
  axes?: number;
}

/** Rotary positions (RoFormer), with the scalings that checkpoints name. */
export class RotaryEmbedding extends Module {
  readonly #rotaryDim: number;
  readonly #style: 'half' | 'pairs';
  readonly #frequencies: number[];
  readonly #sections: readonly number[] | undefined;
  readonly #interleaved: boolean;

  constructor(headDim: number, options: RotaryOptions) {
    super();
    this.#rotaryDim = options.rotaryDim ?? headDim;
    this.#style = options.style ?? 'half';
    const axes = options.axes ?? 1;
    const each = scaledFrequencies(this.#rotaryDim / axes, options.theta, options.scaling ?? undefined);
    this.#frequencies = Array.from({ length: axes }, () => each).flat();
    this.#sections = axes > 1 ? new Array<number>(axes).fill(each.length) : options.scaling?.mrope_section;
    this.#interleaved = options.scaling?.mrope_interleaved === true;
  }

  /** @param positions [T], or [axes, T] with `axes` or an mrope_section of as many parts; x [T, heads, headDim] */
  forward(positions: Value, x: Value): Value {
    return rope(x, positions, constant(this.#frequencies), {
      rotary: this.#rotaryDim,
      style: this.#style,
      sections: positions.rank === 2 ? this.#sections : undefined,
      interleaved: positions.rank === 2 && this.#interleaved,
    });
  }
}

const f32 = Math.fround;

/** theta^(-2i/d), rounded to float32 after each operation as the reference does. */
export function ropeFrequencies(rotaryDim: number, theta: number): number[] {
  return Array.from({ length: rotaryDim / 2 }, (_, i) => f32(1 / f32(Math.pow(theta, f32((2 * i) / rotaryDim)))));
}

function scaledFrequencies(rotaryDim: number, theta: number, scaling: RopeScaling | undefined): number[] {
  const plain = ropeFrequencies(rotaryDim, theta);
  const type = scaling?.rope_type ?? scaling?.type ?? 'default';
  switch (type) {
    case 'default':
    case 'mrope': // sections, not a scaling
    case 'dynamic': // changes nothing up to max_position_embeddings, and prompts end there
      return plain;
    case 'linear':
      return plain.map((f) => f32(f / field(scaling!, 'factor', type)));
    case 'factors':
      return plain.map((f, i) => f32(f / factorAt(scaling!, i, plain.length)));
    case 'llama3':
      return llama3Frequencies(plain, scaling!);
    default:
      throw new OcelliError(
        'ERR_CONFIG',
        `Expected one of default, linear, dynamic, factors, llama3 for rope_scaling.rope_type but received '${type}'`,
        { details: { field: 'rope_scaling.rope_type' } },
      );
  }
}

/** Llama 3.1: long waves are slowed by `factor`, short ones kept, those between blended. */
function llama3Frequencies(plain: number[], scaling: RopeScaling): number[] {
  const factor = field(scaling, 'factor', 'llama3');
  const low = field(scaling, 'low_freq_factor', 'llama3');
  const high = field(scaling, 'high_freq_factor', 'llama3');
  const original = field(scaling, 'original_max_position_embeddings', 'llama3');
  return plain.map((f) => {
    const wavelength = f32((2 * Math.PI) / f);
    if (wavelength > original / low) return f32(f / factor);
    if (wavelength < original / high) return f;
    const smooth = f32(f32(f32(original / wavelength) - low) / (high - low));
    return f32(f32(f32(f32(1 - smooth) * f) / factor) + f32(smooth * f));
  });
}

function factorAt({ factors }: RopeScaling, index: number, count: number): number {
  const factor = factors?.[index];
  if (factors?.length === count && Number.isFinite(factor) && factor! > 0) return factor!;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected ${count} positive numbers for rope_scaling.factors but received ${factors?.length ?? 0}`,
    { details: { field: 'rope_scaling.factors' } },
  );
}

function field(scaling: RopeScaling, name: string, type: string): number {
  const value = scaling[name];
  if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected a positive number for rope_scaling.${name} of rope_type '${type}' but received ${JSON.stringify(value)}`,
    {
      details: { field: `rope_scaling.${name}` },
    },
  );
}
