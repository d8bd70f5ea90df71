import { OcelliError } from '../../errors';
import { Module } from '../module';
import { constant, rope } from '../ops';
import type { Value } from '../value';
import { reshape, slice } from '../views';

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
  /** The axes get the frequencies of the whole head in turn, in place of their own (Pixtral). */
  dealt?: boolean;
}

/** Rotary positions (RoFormer), with the scalings that checkpoints name. */
export class RotaryEmbedding extends Module {
  readonly #rotaryDim: number;
  readonly #style: 'half' | 'pairs';
  readonly #scaled: ScaledRope;
  readonly #sections: readonly number[] | undefined;
  readonly #interleaved: boolean;

  constructor(headDim: number, options: RotaryOptions) {
    super();
    this.#rotaryDim = options.rotaryDim ?? headDim;
    this.#style = options.style ?? 'half';
    const axes = options.axes ?? 1;
    if (options.scaling?.mrope_section !== undefined) checkSections(options.scaling.mrope_section, this.#rotaryDim / 2);
    const shared = options.dealt ? this.#rotaryDim : this.#rotaryDim / axes;
    const each = scaledRope(shared, options.theta, options.scaling ?? undefined);
    const ofAxis = (axis: number): number[] =>
      options.dealt ? each.frequencies.filter((_, i) => i % axes === axis) : each.frequencies;
    this.#scaled = { ...each, frequencies: Array.from({ length: axes }, (_, axis) => ofAxis(axis)).flat() };
    this.#sections =
      axes > 1 ? new Array<number>(axes).fill(this.#rotaryDim / 2 / axes) : options.scaling?.mrope_section;
    this.#interleaved = options.scaling?.mrope_interleaved === true;
  }

  /**
   * @param positions [T]; [axes, T] with `axes` or an mrope_section of as many parts; [2, T] with LongRoPE: on one axis the token moves
   * by the short factors, on the other by the long ones, and it rests at 0 on the one that is not its request's
   * @param x [T, heads, headDim]
   */
  forward(positions: Value, x: Value): Value {
    const { frequencies, long, scale } = this.#scaled;
    const options = { rotary: this.#rotaryDim, style: this.#style };
    if (long) {
      const [short, other] = [0, 1].map((i) => reshape(slice(positions, 0, i, i + 1), [positions.shape[1]!]));
      // No turn leaves x as it is, bit for bit, but for the scale, which comes once.
      const turned = rope(x, short!, constant(frequencies), { ...options, scale });
      return rope(turned, other!, constant(long), options);
    }
    return rope(x, positions, constant(frequencies), {
      ...options,
      scale,
      ...(positions.rank === 2 ? { sections: this.#sections, interleaved: this.#interleaved } : {}),
    });
  }
}

const f32 = Math.fround;

/** theta^(-2i/d), rounded to float32 after each operation as the reference does. */
export function ropeFrequencies(rotaryDim: number, theta: number): number[] {
  return powers(rotaryDim, theta).map((p) => f32(1 / p));
}

function powers(rotaryDim: number, theta: number): number[] {
  return Array.from({ length: rotaryDim / 2 }, (_, i) => f32(Math.pow(theta, f32((2 * i) / rotaryDim))));
}

interface ScaledRope {
  frequencies: number[];
  /** LongRoPE: those of long prompts. */
  long?: number[];
  /** Of cos and sin. */
  scale?: number;
}

function scaledRope(rotaryDim: number, theta: number, scaling: RopeScaling | undefined): ScaledRope {
  const plain = ropeFrequencies(rotaryDim, theta);
  const type = scaling?.rope_type ?? scaling?.type ?? 'default';
  switch (type) {
    case 'default':
    case 'mrope': // sections, not a scaling
    case 'dynamic': // changes nothing up to max_position_embeddings, and prompts end there
      return { frequencies: plain };
    case 'linear':
      return { frequencies: plain.map((f) => f32(f / field(scaling!, 'factor', type))) };
    case 'factors':
      return { frequencies: plain.map((f, i) => f32(f / factorAt(scaling!, i, plain.length))) };
    case 'llama3':
      return { frequencies: llama3Frequencies(plain, scaling!) };
    case 'yarn':
      return yarn(rotaryDim, theta, scaling!);
    case 'longrope':
      return longRope(rotaryDim, theta, scaling!);
    default:
      throw new OcelliError(
        'ERR_CONFIG',
        `Expected one of default, linear, dynamic, factors, llama3, yarn, longrope for rope_scaling.rope_type but received '${type}'`,
        { details: { field: 'rope_scaling.rope_type' } },
      );
  }
}

/**
 * YaRN (Peng et al. 2023): frequencies that turn often in the original length are kept, slow ones divided by the factor, those between
 * blended by a ramp over their index; and attention is sharpened a little.
 */
function yarn(rotaryDim: number, theta: number, scaling: RopeScaling): ScaledRope {
  const factor = field(scaling, 'factor', 'yarn');
  const original = field(scaling, 'original_max_position_embeddings', 'yarn');
  /** The index, not whole, of the frequency that turns so often in the original length. */
  const indexOf = (turns: number): number =>
    (rotaryDim * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const border = (name: string, fallback: number): number =>
    indexOf(scaling[name] === undefined ? fallback : field(scaling, name, 'yarn'));
  const whole = scaling.truncate !== false;
  const fast = border('beta_fast', 32);
  const slow = border('beta_slow', 1);
  const low = Math.max(whole ? Math.floor(fast) : fast, 0);
  const high = Math.min(whole ? Math.ceil(slow) : slow, rotaryDim - 1);
  const frequencies = powers(rotaryDim, theta).map((p, i) => {
    const ramp = f32(Math.min(1, Math.max(0, (i - low) / (high === low ? 0.001 : high - low))));
    return f32(f32(f32(1 / f32(factor * p)) * ramp) + f32(f32(1 / p) * f32(1 - ramp)));
  });
  const sharpness = (by: number): number => (factor <= 1 ? 1 : 0.1 * by * Math.log(factor) + 1);
  const { attention_factor: given, mscale, mscale_all_dim: all } = scaling;
  const ratio = typeof mscale === 'number' && typeof all === 'number' && mscale !== 0 && all !== 0;
  const scale = ratio ? sharpness(mscale) / sharpness(all) : sharpness(1);
  return { frequencies, scale: typeof given === 'number' ? given : scale };
}

/** LongRoPE: each frequency has a factor of its own, and another one in prompts beyond the original length. */
function longRope(rotaryDim: number, theta: number, scaling: RopeScaling): ScaledRope {
  const original = field(scaling, 'original_max_position_embeddings', 'longrope');
  const stretch = field(scaling, 'max_position_embeddings', 'longrope') / original;
  const divided = (name: 'short_factor' | 'long_factor'): number[] => {
    const factors = scaling[name];
    const valid = Array.isArray(factors) && factors.length === rotaryDim / 2 && factors.every((f) => f > 0);
    if (valid) return powers(rotaryDim, theta).map((p, i) => f32(1 / f32(f32(factors[i] as number) * p)));
    throw new OcelliError(
      'ERR_CONFIG',
      `Expected ${rotaryDim / 2} positive numbers for rope_scaling.${name} but received ${Array.isArray(factors) ? factors.length : typeof factors}`,
      { details: { field: `rope_scaling.${name}` } },
    );
  };
  const scale = stretch <= 1 ? 1 : Math.sqrt(1 + Math.log(stretch) / Math.log(original));
  const given = scaling.attention_factor;
  return {
    frequencies: divided('short_factor'),
    long: divided('long_factor'),
    scale: typeof given === 'number' ? given : scale,
  };
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

function checkSections(sections: unknown, frequencies: number): void {
  const sum = Array.isArray(sections) ? sections.reduce((a, b) => a + b, 0) : 0;
  if (sum === frequencies) return;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected sections that add up to the ${frequencies} frequencies of a head for rope_scaling.mrope_section but received ${JSON.stringify(sections)}`,
    { details: { field: 'rope_scaling.mrope_section' } },
  );
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
