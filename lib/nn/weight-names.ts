/** From parameter names (attribute paths) to the names that a checkpoint has. */
import { OcelliError } from '../errors';
import type { ProgramJson } from './program';

/** Another spelling of a prefix: a parameter that begins with `from` may be stored under `to` + the rest. */
export type WeightNameRule = readonly [from: string, to: string];

/** Part name -> checkpoint name for every weight of the programs. The attribute path itself comes first, then each rule in order. */
export function resolveWeightNames(
  programs: readonly ProgramJson[],
  checkpointTensorNames: Iterable<string>,
  rules: readonly WeightNameRule[] = [],
): Record<string, string> {
  const known = new Set(checkpointTensorNames);
  const names: Record<string, string> = {};
  for (const program of programs) {
    for (const weight of program.weights) {
      for (const part of weight.parts ?? [weight.name]) {
        if (names[part] !== undefined) continue;
        const candidates = spellings(part, rules);
        const found = candidates.find((c) => known.has(c));
        if (found === undefined) throw missing(part, candidates, known);
        names[part] = found;
      }
    }
  }
  return names;
}

/** A parameter's own name, and the others that rules lead to. */
export function spellings(part: string, rules: readonly WeightNameRule[]): string[] {
  return [
    ...new Set([
      part,
      ...rules.filter(([from]) => part.startsWith(from)).map(([from, to]) => to + part.slice(from.length)),
    ]),
  ];
}

function missing(part: string, candidates: string[], known: ReadonlySet<string>): OcelliError {
  const tail = part.split('.').slice(-3).join('.');
  const similar = [...known].filter((k) => k.endsWith(tail)).slice(0, 3);
  return new OcelliError(
    'ERR_WEIGHT_MISSING',
    `Expected the tensor '${candidates.join("' or '")}' in the checkpoint but it has none of that name`,
    {
      hint:
        similar.length > 0
          ? `It has ${similar.map((s) => `'${s}'`).join(', ')}: the architecture in config.json may be another one.`
          : 'A shard may be missing, or the architecture in config.json is another one.',
      details: { parameter: part, candidates },
    },
  );
}
