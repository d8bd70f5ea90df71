/** What a header may say, value by value, and what it may not: each lie has its code. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadNative, type MetadataValue } from '../../dist/native';
import { entry, ggufBytes, text, u32, u64, valueTypes, writeGguf, type GgufSpec, type TensorSpec } from './writer';

const folder = mkdtempSync(join(tmpdir(), 'ocelli-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));
const native = loadNative();
const path = join(folder, 'model.gguf');

async function metadataOf(spec: GgufSpec): Promise<[string, MetadataValue][]> {
  return native.checkpointMetadata(await native.openCheckpoint([writeGguf(path, spec)]), 0);
}

test('values of every type, alone and in arrays', async () => {
  const values: [string, MetadataValue][] = [
    ['u8', 200],
    ['i8', -100],
    ['u16', 65000],
    ['i16', -30000],
    ['u32', 4e9],
    ['i32', -2e9],
    ['f32', 0.5],
    ['bool', true],
    ['str', 'héllo'],
    ['u64', 2n ** 63n],
    ['i64', -(2n ** 63n)],
    ['f64', 0.1],
  ];
  const metadata = values.flatMap(
    ([type, value]) =>
      [
        [`one.${type}`, type, value],
        [`list.${type}`, type, [value, value]],
        [`none.${type}`, type, []],
      ] as never[],
  );
  expect(await metadataOf({ metadata })).toEqual(
    values.flatMap(([type, value]) => [
      [`one.${type}`, value],
      [`list.${type}`, [value, value]],
      [`none.${type}`, []],
    ]),
  );
});

test('keys are data: none of them reaches a prototype', async () => {
  expect(await metadataOf({ metadata: [['__proto__', 'str', 'x']] })).toEqual([['__proto__', 'x']]);
});

test.each([1, 16, 32, 4096])('an alignment of %d', async (alignment) => {
  const tensor = (name: string, value: number): TensorSpec => ({
    name,
    shape: [3],
    type: 'f32',
    data: new Uint8Array(Float32Array.of(value, 2, 3).buffer),
  });
  const metadata: GgufSpec['metadata'] = [['general.alignment', 'u32', alignment]];
  const file = writeGguf(path, { alignment, metadata, tensors: [tensor('a', 1), tensor('b', -1)] });
  const handle = await native.openCheckpoint([file]);
  expect([...native.checkpointRows(handle, 'a', 0, 1)]).toEqual([1, 2, 3]);
  expect([...native.checkpointRows(handle, 'b', 0, 1)]).toEqual([-1, 2, 3]);
});

test('version 2 reads as version 3', async () => {
  expect(await metadataOf({ version: 2, metadata: [['k', 'u8', 1]] })).toEqual([['k', 1]]);
});

const f32s = (count: number): Uint8Array => new Uint8Array(count * 4);
const tensor = (overrides: Partial<TensorSpec>): TensorSpec => ({
  name: 't',
  shape: [2, 4],
  type: 'f32',
  data: f32s(8),
  ...overrides,
});
const raw = (...parts: Buffer[]): GgufSpec => ({ rawMetadata: [Buffer.concat(parts)] });

const lies: [string, GgufSpec, string][] = [
  ['version 1', { version: 1 }, 'the version'],
  ['version 4', { version: 4 }, 'the version'],
  ['big-endian numbers', { version: 0x03000000 }, 'little-endian'],
  ['a key longer than the format allows', raw(u64(65536), Buffer.alloc(65536, 97), u32(0), Buffer.from([1])), 'a key'],
  ['a string of 2^62 bytes', raw(text('k'), u32(valueTypes.str), u64(2n ** 62n)), 'a string'],
  ['an array of 2^62 elements', raw(text('k'), u32(valueTypes.arr), u32(0), u64(2n ** 62n)), "'k'"],
  ['an array of arrays', raw(text('k'), u32(valueTypes.arr), u32(valueTypes.arr), u64(1)), 'array of arrays'],
  ['a value of no type', raw(text('k'), u32(13), u64(0)), "'k'"],
  ['an array of no type', raw(text('k'), u32(valueTypes.arr), u32(4096), u64(1)), "'k'"],
  ['a bool of 2', raw(text('k'), u32(valueTypes.bool), Buffer.from([2])), 'a bool'],
  [
    'a key twice',
    {
      metadata: [
        ['k', 'u8', 1],
        ['k', 'u8', 2],
      ],
    },
    "'k' twice",
  ],
  ['an alignment of 0', { metadata: [['general.alignment', 'u32', 0]] }, 'general.alignment'],
  ['an alignment of 24', { metadata: [['general.alignment', 'u32', 24]] }, 'general.alignment'],
  ['an alignment of 2^31', { metadata: [['general.alignment', 'u32', 2 ** 31]] }, 'general.alignment'],
  ['an alignment that is a string', { metadata: [['general.alignment', 'str', '32']] }, 'general.alignment'],
  ['an alignment that is a list', { metadata: [['general.alignment', 'u32', [32]]] }, 'general.alignment'],
  ['a tensor twice', { tensors: [tensor({}), tensor({})] }, "'t' twice"],
  ['a tensor without a name', { tensors: [tensor({ name: '' })] }, 'a name'],
  ['a name of 5000 bytes', { tensors: [tensor({ name: 'n'.repeat(5000) })] }, "a tensor's name"],
  ['no dimension', { tensors: [tensor({ shape: [] })] }, "'t'"],
  ['five dimensions', { tensors: [tensor({ shape: [1, 1, 1, 2, 4] })] }, "'t'"],
  ['a dimension of 0', { tensors: [tensor({ shape: [0, 4] })] }, "'t'"],
  ['elements beyond 2^63', { tensors: [tensor({ shape: [2 ** 40, 2 ** 40] })] }, "'t'"],
  ['bytes beyond 2^64', { tensors: [tensor({ shape: [2 ** 31, 2 ** 31] })] }, "'t'"],
  ['a row of half a block', { tensors: [tensor({ shape: [2, 16], type: 'q4_0', data: f32s(18) })] }, 'whole blocks'],
  ['a type of no name', { tensors: [tensor({ type: 99 })] }, 'a type of the format'],
  ['a type that was removed', { tensors: [tensor({ type: 4 })] }, 'a type of the format'],
  ['an offset that is not aligned', { tensors: [tensor({ offset: 4n })] }, 'an offset of 0'],
  ['a hole', { tensors: [tensor({}), tensor({ name: 'u', offset: 64n })] }, 'an offset of 32'],
  ['an overlap', { tensors: [tensor({}), tensor({ name: 'u', offset: 0n })] }, 'an offset of 32'],
  ['an offset that wraps', { tensors: [tensor({ offset: 2n ** 64n - 32n })] }, 'an offset of 0'],
];

test.each(lies)('%s', async (_what, spec, words) => {
  await expect(native.openCheckpoint([writeGguf(path, spec)])).rejects.toMatchObject({
    code:
      spec.tensors?.[0]?.shape[0] === 2 ** 31
        ? (expect.stringMatching(/FORMAT|TRUNCATED/) as string)
        : 'ERR_CHECKPOINT_FORMAT',
    message: expect.stringContaining(words) as string,
  });
});

test.each<[string, GgufSpec]>([
  ['more values than there are', { counts: { values: 2n ** 64n - 1n } }],
  ['more tensors than there are', { alignment: 1, counts: { tensors: 2n ** 63n } }],
  ['a string beyond the end', raw(text('k'), u32(valueTypes.str), u64(2n ** 29n))],
  ['an array beyond the end', raw(text('k'), u32(valueTypes.arr), u32(valueTypes.u64), u64(2n ** 30n))],
  ['an array of strings beyond the end', raw(text('k'), u32(valueTypes.arr), u32(valueTypes.str), u64(2n ** 30n))],
  ['a tensor beyond the end', { tensors: [tensor({ shape: [1000, 1000] })] }],
])('%s: the file is too short', async (_what, spec) => {
  await expect(native.openCheckpoint([writeGguf(path, spec)])).rejects.toMatchObject({
    code: 'ERR_CHECKPOINT_TRUNCATED',
  });
});

test('cut off anywhere, a file is too short', async () => {
  const whole = ggufBytes({
    metadata: [
      ['a.string', 'str', 'some text'],
      ['a.list', 'str', ['one', 'two']],
      ['numbers', 'f32', [1, 2, 3]],
    ],
    tensors: [tensor({}), tensor({ name: 'u' })],
  });
  writeFileSync(path, whole);
  await native.openCheckpoint([path]);
  // Downwards, so that no file that is mapped grows. Without its first four bytes it is no GGUF.
  for (let length = whole.length - 1; length >= 4; length--) {
    truncateSync(path, length);
    await expect(native.openCheckpoint([path])).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_TRUNCATED' });
  }
});

test('one name in two files', async () => {
  const files = ['a', 'b'].map((name) => writeGguf(join(folder, `${name}.gguf`), { tensors: [tensor({})] }));
  await expect(native.openCheckpoint(files)).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_DUPLICATE' });
});

test('a header of two hundred thousand strings is read within a second', async () => {
  const words = Array.from({ length: 200_000 }, (_, i) => `token${i}`);
  writeFileSync(path, ggufBytes({ rawMetadata: [entry(['tokens', 'str', words])] }));
  const start = performance.now();
  const handle = await native.openCheckpoint([path]);
  const opened = performance.now() - start;
  const [[, tokens]] = native.checkpointMetadata(handle, 0) as [[string, string[]]];
  expect(tokens).toEqual(words);
  // Some milliseconds; a reader that copies or searches takes seconds.
  expect(opened).toBeLessThan(1000);
});
