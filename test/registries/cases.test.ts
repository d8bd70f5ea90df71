import { cases, missingTest } from './cases';

const all = [...cases.errors, ...cases.defects, ...cases.cases].flatMap((g) => g.cases);

test('every case has a test that exists, or an owner that is named', () => {
  expect(all.length).toBeGreaterThan(120);
  expect(all.flatMap((c) => (c.test === undefined ? [] : (missingTest(c.test) ?? [])))).toEqual([]);
  expect(all.filter((c) => c.test === undefined && cases.owners[c.owner ?? ''] === undefined)).toEqual([]);
});

test('a name that no test has is noticed', () => {
  expect(missingTest('test/registries/cases.test.ts: a name that no test has is noticed')).toBeUndefined();
  expect(missingTest('test/registries/cases.test.ts: another name')).toContain('no such test');
  expect(missingTest('test/registries/none.test.ts: x')).toContain('no such file');
  expect(missingTest('native/test/caches_test.cc: encoder_cache')).toBeUndefined();
  expect(missingTest('native/test/caches_test.cc: encoder')).toContain('no such test');
});
