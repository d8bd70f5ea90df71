/** The README's table of v0.6.3's functions: a row for every function of the registries, and a test behind every row. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ocelli from '../../dist/index';
import * as nn from '../../dist/nn';
import { root } from '../models/fixtures';
import { missingTest } from '../registries/cases';

const section = readFileSync(join(root, 'README.md'), 'utf8').split(/^## /m).find((part) => part.startsWith('For those who know vLLM'))!;
const rows = section
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| vLLM'))
  .map((line) => line.slice(2, -2).split(' | ') as [string, string, string]);
const named = new Set(rows.flatMap(([, cell]) => [...cell.matchAll(/`([^`]+)`/g)].map((m) => m[1]!)));

/** Public members of a class, as its declarations say. */
function membersOf(file: string): string[] {
  const text = readFileSync(join(root, 'dist', file), 'utf8');
  return [...text.matchAll(/^ {4}(?:static |get )?(\w+)(?:<[^>]*>)?\(/gm)].map((m) => m[1]!).filter((name) => name !== 'constructor');
}

test('every public function of the registries has a row', () => {
  const functions = [
    ...membersOf('multimodal/registry.d.ts').map((name) => `MULTIMODAL_REGISTRY.${name}`),
    ...membersOf('inputs/registry.d.ts').map((name) => `INPUT_REGISTRY.${name}`),
    ...membersOf('inputs/context.d.ts').map((name) => `InputContext.${name}`),
    ...membersOf('multimodal/kwargs.d.ts').map((name) => `MultiModalKwargs.${name}`),
    // Functions and base classes that the package exports for hooks and models.
    ...Object.keys(ocelli).filter((name) => /MultiModalPlugin|^register|^supports|Placeholder/.test(name)),
  ];
  expect(functions.length).toBeGreaterThan(28);
  expect(functions.filter((name) => !named.has(name))).toEqual([]);
});

test('every row names what there is', () => {
  const known = (name: string): boolean => {
    const [object, member] = name.split('.') as [string, string | undefined];
    const value = (ocelli as Record<string, unknown>)[object] ?? (nn as Record<string, unknown>)[object];
    if (member === undefined) return value !== undefined;
    const of = value as { prototype?: object } & object;
    return member in of || (of.prototype !== undefined && member in of.prototype);
  };
  // Types and options are gone at run time, and ocelli/nn is a module.
  const erased = ['SupportsMultiModal', 'limitMmPerPrompt', 'mmProcessorKwargs', 'ocelli/nn'];
  expect([...named].filter((name) => !erased.includes(name) && !known(name))).toEqual([]);
});

test('every row has a test that exists', () => {
  expect(rows.length).toBeGreaterThan(30);
  expect(rows.flatMap(([, , id]) => missingTest(id) ?? [])).toEqual([]);
});
