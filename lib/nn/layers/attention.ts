import { productOf } from '../dim';
import type { KvCache } from '../kv-cache';
import { Module } from '../module';
import { attentionPaged, attentionVarlen, kvStore } from '../ops';
import { tracer } from '../tracer';
import type { Value } from '../value';
import { reshape } from '../views';
import type { AttnMetadata } from '../trace';

export interface AttentionOptions {
  /** Default: headDim^-0.5. */
  scale?: number;
  slidingWindow?: number | null;
  softcap?: number | null;
}

/** Attention of a decoder layer over the paged cache: stores this step's keys and values, then attends. */
export class Attention extends Module {
  readonly #scale: number;
  readonly #window: number | undefined;
  readonly #softcap: number | undefined;

  constructor(headDim: number, options: AttentionOptions = {}) {
    super();
    this.#scale = options.scale ?? headDim ** -0.5;
    this.#window = options.slidingWindow ?? undefined;
    this.#softcap = options.softcap ?? undefined;
  }

  /**
   * q [T, heads, Dk], k [T, kvHeads, Dk], v [T, kvHeads, Dv] -> [T, heads * Dv].
   * @param kvCache which layer; without it layers are numbered in the order in which their attention is first called
   */
  forward(q: Value, k: Value, v: Value, kvCache?: KvCache, _attnMetadata?: AttnMetadata): Value {
    const t = tracer();
    const layer = kvCache?.layer ?? t.kvLayers.get(this) ?? t.kvShapes.length;
    t.kvLayers.set(this, layer);
    kvStore(k, v, layer);
    const out = attentionPaged(q, { layer, scale: this.#scale, window: this.#window, softcap: this.#softcap });
    return reshape(out, [out.shape[0]!, productOf(out.shape.slice(1))]);
  }
}

/** Attention of an encoder, without a cache: [B, L, heads, D] each picture for itself, or [S, heads, D] in segments of cuSeqlens. */
export class VisionAttention extends Module {
  readonly #scale: number;

  constructor(headDim: number, options: { scale?: number } = {}) {
    super();
    this.#scale = options.scale ?? headDim ** -0.5;
  }

  /** -> [.., heads * D] */
  forward(q: Value, k: Value, v: Value, cuSeqlens?: Value): Value {
    const out = attentionVarlen(q, k, v, { scale: this.#scale, cuSeqlens });
    return reshape(out, [...out.shape.slice(0, -2), productOf(out.shape.slice(-2))]);
  }
}
