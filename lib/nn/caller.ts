/** The line of the model's author, for errors: the first stack frame outside this folder. */
export function callerLine(): string {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 40;
  const stack = new Error().stack ?? '';
  Error.stackTraceLimit = limit;
  for (const line of stack.split('\n').slice(1)) {
    if (
      line.includes(__dirname) ||
      line.includes('(node:') ||
      line.includes('at node:') ||
      line.includes('<anonymous>')
    )
      continue;
    const place = /\(([^()]+:\d+:\d+)\)$/.exec(line) ?? /at (?:async )?(\S+:\d+:\d+)$/.exec(line);
    if (place) return place[1]!;
  }
  return 'an unknown line';
}
