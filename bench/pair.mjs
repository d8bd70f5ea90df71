// Both sides of a comparison by turns, so that what else the machine does meets both; the ratio of each turn is what is judged.
import { median, round, spreadOf } from './serving/engine.mjs';

/** A peer's threads may spin for a while after their work: not into ours. */
const rest = () => new Promise((resolve) => setTimeout(resolve, 300));

/** @param sides functions by name, each a turn's figure. { name: figures of each turn } */
export async function byTurns(sides, repeat) {
  const entries = Object.entries(sides);
  // Code, caches and memory are warm before anything counts.
  for (const [, measure] of entries) {
    await measure();
    await rest();
  }
  const found = Object.fromEntries(entries.map(([name]) => [name, []]));
  for (let i = 0; i < repeat; i++) {
    for (const [name, measure] of entries) {
      found[name].push(await measure());
      await rest();
    }
  }
  return found;
}

export const ratios = (a, b) => a.map((x, i) => x / b[i]);

/** Median and spread of a list of figures. */
export const told = (list, digits = 1) => ({ median: round(median(list), digits), spread: spreadOf(list, digits) });

/**
 * One condition of a row: the median of `list`, which is at least or at most `goal`; where there is nothing to compare with, `why`.
 * @returns {{ what, goal, median, spread, pass }}
 */
export function judged(what, list, { atLeast, atMost }) {
  const value = median(list);
  const digits = 3;
  return {
    what,
    goal: atLeast === undefined ? `<= ${atMost}` : `>= ${atLeast}`,
    ...told(list, digits),
    pass: atLeast === undefined ? value <= atMost : value >= atLeast,
  };
}

/** The result of a row from its conditions: the first is what its value tells. Unmeasured ones (a peer that is not there) do not pass. */
export function verdict(conditions, more = {}) {
  const [first] = conditions;
  return {
    goal: conditions.map(({ what, goal }) => `${what} ${goal}`).join('; '),
    value: first.median ?? null,
    spread: first.spread ?? null,
    pass: conditions.every(({ pass }) => pass),
    conditions,
    ...more,
  };
}

export const unmeasured = (what, goal, why) => ({ what, goal, why, pass: false });
