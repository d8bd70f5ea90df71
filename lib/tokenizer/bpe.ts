/** Byte-pair encoding: merges by rank, in O(n log n) for a piece of n symbols. */
import { OcelliError } from '../errors';

export interface Model {
  /** Ids of one piece. */
  encode(piece: string): number[];
}
type Json = Record<string, unknown>;

const cacheEntries = 20_000;
const cachedLength = 128;

export class Bpe implements Model {
  /** left * stride + right -> rank * stride + merged */
  private readonly merges = new Map<number, number>();
  private readonly stride: number;
  private readonly cache = new Map<string, number[]>();
  private readonly unk: number | undefined;
  private readonly byteFallback: boolean;
  private readonly fuseUnk: boolean;
  private readonly ignoreMerges: boolean;
  private readonly byteIds: (number | undefined)[] = [];
  private readonly suffix: string;

  /** @param reserved ids that only added tokens may have */
  constructor(
    json: Json,
    private readonly vocab: ReadonlyMap<string, number>,
    private readonly reserved: ReadonlySet<number>,
    maxId: number,
  ) {
    this.stride = maxId + 1;
    this.byteFallback = json.byte_fallback === true;
    this.fuseUnk = json.fuse_unk === true;
    this.ignoreMerges = json.ignore_merges === true;
    this.suffix = typeof json.end_of_word_suffix === 'string' ? json.end_of_word_suffix : '';
    const prefix = typeof json.continuing_subword_prefix === 'string' ? json.continuing_subword_prefix : '';
    this.unk = typeof json.unk_token === 'string' ? vocab.get(json.unk_token) : undefined;
    for (let b = 0; b < 256; b++) this.byteIds.push(vocab.get(`<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`));
    if (!Array.isArray(json.merges))
      throw new OcelliError('ERR_TOKENIZER', 'Expected a list for model.merges in tokenizer.json');
    json.merges.forEach((merge: unknown, rank) => {
      const [left, right] = typeof merge === 'string' ? splitMerge(merge) : (merge as [string, string]);
      const a = vocab.get(left);
      const b = vocab.get(right);
      const merged = vocab.get(left + (right.startsWith(prefix) ? right.slice(prefix.length) : right));
      if (a === undefined || b === undefined || merged === undefined) {
        throw new OcelliError(
          'ERR_TOKENIZER',
          `Expected tokens of the vocabulary in merge ${rank} but received ${JSON.stringify(merge)}`,
        );
      }
      const key = a * this.stride + b;
      if (!reserved.has(merged) && !this.merges.has(key)) this.merges.set(key, rank * this.stride + merged);
    });
  }

  encode(piece: string): number[] {
    if (piece === '') return [];
    const known = this.cache.get(piece);
    if (known) return known;
    const ids = this.encodeNew(piece);
    if (piece.length <= cachedLength) {
      if (this.cache.size >= cacheEntries) this.cache.clear();
      this.cache.set(piece, ids);
    }
    return ids;
  }

  private encodeNew(piece: string): number[] {
    const text = piece + this.suffix;
    if (this.ignoreMerges) {
      const whole = this.vocab.get(text);
      if (whole !== undefined && !this.reserved.has(whole)) return [whole];
    }
    return this.merge(this.symbols(text));
  }

  private symbols(text: string): number[] {
    const ids: number[] = [];
    let unknown = false;
    for (const c of text) {
      const id = this.vocab.get(c);
      if (id !== undefined) {
        ids.push(id);
        unknown = false;
        continue;
      }
      if (this.byteFallback) {
        const bytes = [...Buffer.from(c, 'utf8')].map((b) => this.byteIds[b]);
        if (bytes.every((b) => b !== undefined)) {
          ids.push(...(bytes as number[]));
          unknown = false;
          continue;
        }
      }
      if (this.unk === undefined) continue;
      if (!(this.fuseUnk && unknown)) ids.push(this.unk);
      unknown = true;
    }
    return ids;
  }

  private merge(ids: number[]): number[] {
    if (ids.length < 2) return ids;
    return ids.length <= 32 ? this.mergeShort(ids) : this.mergeLong(ids);
  }

  private mergeShort(ids: number[]): number[] {
    const { merges, stride } = this;
    for (;;) {
      let best = Infinity;
      let at = -1;
      for (let i = 0; i + 1 < ids.length; i++) {
        const m = merges.get(ids[i]! * stride + ids[i + 1]!);
        if (m !== undefined && m < best) {
          best = m;
          at = i;
        }
      }
      if (at < 0) return ids;
      ids.splice(at, 2, best % stride);
    }
  }

  /** A linked list of symbols and a heap of candidate merges, by rank, then position. */
  private mergeLong(ids: number[]): number[] {
    const { merges, stride } = this;
    const n = ids.length;
    const symbol = Int32Array.from(ids);
    const next = new Int32Array(n);
    const previous = new Int32Array(n);
    for (let i = 0; i < n; i++) {
      next[i] = i + 1 < n ? i + 1 : -1;
      previous[i] = i - 1;
    }
    const heap = new Heap(n);
    const offer = (left: number): void => {
      const right = next[left]!;
      if (left < 0 || right < 0) return;
      const m = merges.get(symbol[left]! * stride + symbol[right]!);
      if (m !== undefined) heap.push(m, left);
    };
    for (let i = 0; i + 1 < n; i++) offer(i);
    while (heap.size > 0) {
      const m = heap.topMerge;
      const left = heap.pop();
      const right = next[left]!;
      // Stale: one of the two was merged meanwhile.
      if (symbol[left]! < 0 || right < 0 || merges.get(symbol[left]! * stride + symbol[right]!) !== m) continue;
      symbol[left] = m % stride;
      symbol[right] = -1;
      next[left] = next[right]!;
      if (next[left]! >= 0) previous[next[left]!] = left;
      if (previous[left]! >= 0) offer(previous[left]!);
      offer(left);
    }
    const out: number[] = [];
    for (let i = 0; i >= 0; i = next[i]!) out.push(symbol[i]!);
    return out;
  }
}

/** A binary heap of (merge, position), smallest first. */
class Heap {
  size = 0;
  private merge: Float64Array;
  private position: Int32Array;

  constructor(capacity: number) {
    this.merge = new Float64Array(capacity * 2 + 2);
    this.position = new Int32Array(capacity * 2 + 2);
  }

  get topMerge(): number {
    return this.merge[0]!;
  }

  push(merge: number, position: number): void {
    if (this.size === this.merge.length) this.grow();
    let i = this.size++;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (this.before(parent, merge, position)) break;
      this.merge[i] = this.merge[parent]!;
      this.position[i] = this.position[parent]!;
      i = parent;
    }
    this.merge[i] = merge;
    this.position[i] = position;
  }

  pop(): number {
    const top = this.position[0]!;
    const merge = this.merge[--this.size]!;
    const position = this.position[this.size]!;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= this.size) break;
      if (child + 1 < this.size && this.before(child + 1, this.merge[child]!, this.position[child]!)) child++;
      if (!this.before(child, merge, position)) break;
      this.merge[i] = this.merge[child]!;
      this.position[i] = this.position[child]!;
      i = child;
    }
    this.merge[i] = merge;
    this.position[i] = position;
    return top;
  }

  private before(index: number, merge: number, position: number): boolean {
    const m = this.merge[index]!;
    return m < merge || (m === merge && this.position[index]! < position);
  }

  private grow(): void {
    const merge = new Float64Array(this.merge.length * 2);
    merge.set(this.merge);
    this.merge = merge;
    const position = new Int32Array(this.position.length * 2);
    position.set(this.position);
    this.position = position;
  }
}

/** "a b": at the first space that is not the first character. */
function splitMerge(merge: string): [string, string] {
  const at = merge.indexOf(' ', 1);
  return [merge.slice(0, at), merge.slice(at + 1)];
}
