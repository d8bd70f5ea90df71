/** Every error of the library. Codes are stable; messages say what was expected and what came. */
const brand = Symbol.for('ocelli.error');

export type OcelliErrorCode = `ERR_${string}`;

export interface OcelliErrorOptions {
  hint?: string;
  details?: Record<string, unknown>;
  requestId?: string;
  cause?: unknown;
}

export class OcelliError extends Error {
  readonly code: OcelliErrorCode;
  readonly hint?: string;
  readonly details?: Record<string, unknown>;
  readonly requestId?: string;

  constructor(code: OcelliErrorCode, message: string, options: OcelliErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'OcelliError';
    this.code = code;
    if (options.hint !== undefined) this.hint = options.hint;
    if (options.details !== undefined) this.details = options.details;
    if (options.requestId !== undefined) this.requestId = options.requestId;
    Object.defineProperty(this, brand, { value: true });
  }

  /** True for errors of any copy of the package: tests a registered symbol, not the class. */
  static is(e: unknown): e is OcelliError {
    return typeof e === 'object' && e !== null && (e as Record<symbol, unknown>)[brand] === true;
  }
}

/** The nearest of `names` by edit distance, if near enough to be meant. */
export function nearestName(name: string, names: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of names) {
    const d = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (d < bestDistance) {
      best = candidate;
      bestDistance = d;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}
