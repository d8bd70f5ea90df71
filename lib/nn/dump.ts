import type { DimJson, ProgramJson } from './program';

/** A program as text, one line per input, weight and op: for tests, bug reports and curiosity. */
export function dumpProgram(program: ProgramJson): string {
  const { values } = program;
  const names = values.map((_, i) => `%${i}`);
  for (const input of program.inputs) names[input.value] = input.name;
  for (const weight of program.weights) names[weight.value] = weight.name;
  for (const c of program.constants ?? []) names[c.value] = `const${c.value}`;
  values.forEach((v, i) => {
    if (v.of === undefined) return;
    const of = names[v.of]!;
    if (v.kind === 'slice') {
      const end = addJson(v.start ?? 0, v.shape[v.dim ?? 0]!);
      names[i] = `${of}[${':, '.repeat(v.dim ?? 0)}${dimText(v.start ?? 0)}:${end}]`;
    } else names[i] = `${of}.${v.kind}(${v.shape.map(dimText).join(', ')})`;
  });
  const lines = [`program ${program.name}(${program.symbols.join(', ')})`];
  const type = (i: number): string => `${values[i]!.dtype}[${values[i]!.shape.map(dimText).join(', ')}]`;
  for (const input of program.inputs) lines.push(`  input ${input.name}: ${type(input.value)} (${input.kind})`);
  for (const w of program.weights)
    lines.push(`  weight ${w.name}: [${w.shape.join(', ')}]${w.linear ? ' linear' : ''}`);
  for (const c of program.constants ?? [])
    lines.push(`  constant ${names[c.value]}: ${type(c.value)} = ${numbersText(c.data)}`);
  let path = '';
  for (const op of program.ops) {
    if (op.path !== path) lines.push(`  # ${(path = op.path) === '' ? 'forward' : path}`);
    const attrs = Object.entries(op.attrs ?? {}).map(([k, v]) => `${k}=${Array.isArray(v) ? `[${v.join(', ')}]` : v}`);
    const args = [...op.in.map((i) => (i === null ? '-' : names[i]!)), ...attrs].join(', ');
    const out = op.out.map((i) => `${names[i]}: ${type(i)}`).join(', ');
    lines.push(`  ${out === '' ? '' : `${out} = `}${op.op}(${args})`);
  }
  for (const [name, v] of Object.entries(program.outputs)) lines.push(`  output ${name} = ${names[v]}: ${type(v)}`);
  return `${lines.join('\n')}\n`;
}

function dimText(d: DimJson): string {
  if (typeof d === 'number') return String(d);
  const parts = d.terms.map(
    (t) =>
      `${t.mul === undefined || t.mul === 1 ? '' : `${t.mul}*`}${t.sym}${t.div === undefined || t.div === 1 ? '' : `/${t.div}`}`,
  );
  if (d.c) parts.push(String(d.c));
  return parts.join(' + ');
}

function addJson(a: DimJson, b: DimJson): string {
  if (typeof a === 'number' && typeof b === 'number') return String(a + b);
  if (a === 0) return dimText(b);
  return `${dimText(a)} + ${dimText(b)}`;
}

function numbersText(data: readonly number[]): string {
  const shown = data.slice(0, 4).map((x) => String(Number(x.toPrecision(6))));
  return `[${shown.join(', ')}${data.length > 4 ? `, ... ${data.length - 4} more` : ''}]`;
}
