/** How a command ends: exit codes, the line that says what went wrong, and Ctrl-C. */
import { debuglog } from 'node:util';
import { OcelliError } from '../errors';

const debug = debuglog('ocelli');

export const exitCodes = { done: 0, error: 1, usage: 2, interrupted: 130 } as const;

/** The command line itself is wrong: exit code 2. */
export class UsageError extends Error {}

/** Ctrl-C stopped the command: exit code 130, nothing printed. */
export class Interrupted extends Error {}

/** The command said all there is to say; only the exit code remains. */
export class Failed extends Error {}

export function exitCodeOf(e: unknown): number {
  if (e instanceof Interrupted) return exitCodes.interrupted;
  return e instanceof UsageError ? exitCodes.usage : exitCodes.error;
}

/** What, why and what to do, in one line. NODE_DEBUG=ocelli shows where it comes from. */
export function errorLine(e: unknown): string {
  debug('%O', e);
  const { message, hint, code } = describe(e);
  const text = /[.!?]$/.test(message) ? message : `${message}.`;
  return `ocelli: ${[text, hint, code && `(${code})`].filter(Boolean).join(' ')}`.replace(/\s*\n\s*/g, ' ');
}

/** The same for --json. */
export function errorJson(e: unknown): string {
  return JSON.stringify({ error: describe(e) });
}

function describe(e: unknown): { code?: string; message: string; hint?: string; details?: unknown } {
  if (OcelliError.is(e)) {
    const { code, message, hint, details } = e;
    return { code, message, ...(hint ? { hint } : {}), ...(details ? { details } : {}) };
  }
  if (e instanceof UsageError)
    return { code: 'ERR_USAGE', message: e.message, hint: 'Add --help for what is possible.' };
  const { message, code } = e instanceof Error ? (e as NodeJS.ErrnoException) : { message: String(e), code: undefined };
  return { ...(code ? { code } : {}), message };
}

let stop: (() => void) | undefined;

/** The first press stops what can be stopped; a press while nothing runs, or is stopping already, leaves at once. */
export function pressInterrupt(): void {
  const stopNow = stop;
  stop = undefined;
  if (stopNow) stopNow();
  else process.exit(exitCodes.interrupted);
}

/** The library installs no signal handler; the command line has this one. */
export function handleInterrupts(): void {
  process.on('SIGINT', pressInterrupt);
}

/** Runs work that the first Ctrl-C stops through `onInterrupt`. */
export async function stoppable<T>(onInterrupt: () => void, work: () => Promise<T>): Promise<T> {
  stop = onInterrupt;
  try {
    return await work();
  } finally {
    stop = undefined;
  }
}
