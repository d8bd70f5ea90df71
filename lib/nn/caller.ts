import { dirname } from 'node:path';

/** The line of the model's author, for errors: the first stack frame outside this folder. */
export function callerLine(): string {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 40;
  const stack = new Error().stack ?? '';
  Error.stackTraceLimit = limit;
  const places = stack
    .split('\n')
    .slice(1)
    .map((line) => (/\(([^()]+:\d+:\d+)\)$/.exec(line) ?? /at (?:async )?(\S+:\d+:\d+)$/.exec(line))?.[1])
    .filter((place) => place !== undefined);
  // Source maps may show this file as lib/nn/caller.ts, so its folder is read from the stack too.
  const own = dirname(places[0] ?? __filename);
  return places.find((place) => !place.startsWith(own) && !place.startsWith('node:')) ?? 'an unknown line';
}
