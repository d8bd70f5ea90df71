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
