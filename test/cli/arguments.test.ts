/** Which arguments are pictures, which one is the question; flags; error lines. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { OcelliError } from '../../dist/errors';
import { addEngineFlags, addSamplingFlags, engineOptionsOf, samplingOptionsOf } from '../../dist/cli/flags';
import { errorJson, errorLine, exitCodeOf, Interrupted, UsageError } from '../../dist/cli/outcome';
import { looksLikePath, sortArguments } from '../../dist/cli/pictures';
import { bytes, printable, seconds } from '../../dist/cli/terminal';
import { samplingDefaults } from '../../dist/cli/chat';

const folder = mkdtempSync(join(tmpdir(), 'ocelli-arguments-'));
const picture = join(folder, 'what a name');
writeFileSync(picture, 'x');
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  ['cat.png', true],
  ['my holiday.JPG', true],
  ['./cat', true],
  ['../cat', true],
  ['/cat', true],
  ['photos/cat', true],
  ['C:\\cat', true],
  ['https://example.org/cat', true],
  ['data:image/png;base64,AAAA', true],
  ['What is this?', false],
  ['Is it red or/and blue?', false],
  ['How many?', false],
  ['count', false],
  ['3.5', false],
])('%s looks like a path: %s', (argument, expected) => {
  expect(looksLikePath(argument)).toBe(expected);
});

test('pictures first, then one question', async () => {
  const url = 'https://example.org/a.png';
  expect(await sortArguments([picture, url, 'What?'])).toEqual({ pictures: [picture, url], question: 'What?' });
  expect(await sortArguments([picture])).toEqual({ pictures: [picture] });
  expect(await sortArguments([])).toEqual({ pictures: [] });
  expect(await sortArguments(['What?'], [picture])).toEqual({ pictures: [picture], question: 'What?' });
});

test('what looks like a path and does not exist is an error, as is a folder', async () => {
  for (const path of [join(folder, 'none.png'), 'none.png', './none', folder])
    await expect(sortArguments([path, 'What?'])).rejects.toMatchObject({ code: 'ERR_MEDIA_NOT_FOUND' });
  await expect(sortArguments(['What?'], ['none'])).rejects.toMatchObject({ code: 'ERR_MEDIA_NOT_FOUND' });
});

test('wrong usage', async () => {
  await expect(sortArguments(['What', 'is', 'this?'])).rejects.toThrow(/put the question in quotes/);
  await expect(sortArguments(['What?', picture])).rejects.toThrow(/as the last argument/);
  await expect(sortArguments([' '])).rejects.toThrow(UsageError);
});

function parse(...args: string[]): { engine: object; sampling: object } {
  const command = addEngineFlags(addSamplingFlags(new Command()))
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  command.parse(args, { from: 'user' });
  return { engine: engineOptionsOf(command.opts()), sampling: samplingOptionsOf(command.opts()) };
}

test('flags become options of the library', () => {
  expect(parse()).toEqual({ engine: {}, sampling: {} });
  const template = join(folder, 'template.jinja');
  writeFileSync(template, '{{ messages }}');
  const engine = ['--threads', '2', '--kv-cache-memory-bytes', '1.5G', '--limit-mm-per-prompt', 'image=2,video=0'];
  const more = ['--mm-processor-kwargs', '{"a":1}', '--chat-template', template, '--dtype', 'float32'];
  const sampling = ['--temperature', '0.5', '--stop', 'a', '--stop', 'b', '--ignore-eos', '--max-tokens', '3'];
  expect(parse(...engine, ...more, ...sampling)).toEqual({
    engine: {
      threads: 2,
      kvCacheMemoryBytes: 1.5 * 1024 ** 3,
      limitMmPerPrompt: { image: 2, video: 0 },
      mmProcessorKwargs: { a: 1 },
      chatTemplate: '{{ messages }}',
      dtype: 'float32',
    },
    sampling: { temperature: 0.5, stop: ['a', 'b'], ignoreEos: true, maxTokens: 3 },
  });
  for (const wrong of [
    ['--threads', 'many'],
    ['--kv-cache-memory-bytes', '1X'],
    ['--limit-mm-per-prompt', '2'],
    ['--no'],
  ])
    expect(() => parse(...wrong)).toThrow();
});

test.each([
  ['2', 'Expected MODALITY=COUNT'],
  ['image=', 'Expected MODALITY=COUNT'],
  ['image=two', 'Expected MODALITY=COUNT'],
  ['image=1,image=2', 'Expected one count for image'],
])('--limit-mm-per-prompt %s: %s', (list, message) => {
  expect(() => parse('--limit-mm-per-prompt', list)).toThrow(message);
});

test('without a temperature of anybody the likeliest token is taken', () => {
  expect(samplingDefaults({}, {})).toEqual({ temperature: 0 });
  expect(samplingDefaults({ temperature: 1 }, {})).toEqual({ temperature: 1 });
  expect(samplingDefaults({ topK: 4 }, { temperature: 0.7 })).toEqual({ topK: 4 });
});

test('an error is one line: what, why, what to do', () => {
  const error = new OcelliError('ERR_OPTION', 'Expected a\n number', { hint: 'Give one.', details: { option: 'x' } });
  expect(errorLine(error)).toBe('ocelli: Expected a number. Give one. (ERR_OPTION)');
  expect(JSON.parse(errorJson(error))).toEqual({
    error: { code: 'ERR_OPTION', message: 'Expected a\n number', hint: 'Give one.', details: { option: 'x' } },
  });
  expect(errorLine(new Error('plain'))).toBe('ocelli: plain.');
  expect([error, new UsageError('u'), new Interrupted()].map(exitCodeOf)).toEqual([1, 2, 130]);
});

test('text for terminals', () => {
  expect(printable('a\x1b[31mb\x07\r\n\tc\u009b1m')).toBe('a[31mb\n\tc1m');
  expect([bytes(5), bytes(1536), bytes(2 ** 31), bytes(300 * 2 ** 20)]).toEqual([
    '5 B',
    '1.5 KiB',
    '2.0 GiB',
    '300 MiB',
  ]);
  expect([seconds(12.4), seconds(1234), seconds(12_345)]).toEqual(['12 ms', '1.23 s', '12.3 s']);
});
