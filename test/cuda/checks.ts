/** What the scripts of this folder count: each runs in a process of its own, and its last line tells. */
export const counts = { checks: 0, failed: 0 };

export function check(right: boolean, what: string): void {
  counts.checks++;
  if (right) return;
  counts.failed++;
  process.stdout.write(`FAILED ${what}\n`);
}
