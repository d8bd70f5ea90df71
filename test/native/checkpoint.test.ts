/** Checkpoints that lie: each is refused with a code and names, and the next one loads. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LLM } from '../../dist/index';
import { loadNative, type ModelOptions } from '../../dist/native';
import { fixtureModels } from '../models/fixtures';

const native = loadNative();
const folder = mkdtempSync(join(tmpdir(), 'ocelli-checkpoint-'));
afterAll(() => rmSync(folder, { recursive: true }));

type Entry = { dtype?: unknown; shape?: unknown; data_offsets?: unknown; [key: string]: unknown };
type Header = Record<string, Entry | Record<string, unknown>>;

let files = 0;
/** A safetensors file: header as given (text, or an object), its length as true unless given, then `data` bytes. */
function file(header: Header | string | Buffer, data = 0, length?: string): string {
  const text = Buffer.isBuffer(header)
    ? header
    : Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(length ?? text.length));
  const path = join(folder, `${files++}.safetensors`);
  writeFileSync(path, Buffer.concat([prefix, text, Buffer.alloc(data)]));
  return path;
}

const f32 = (shape: number[], begin: number, end: number): Entry => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

/** The error's code and message. */
async function refused(promise: Promise<unknown>): Promise<{ code: string; message: string }> {
  const error = await promise.then(
    () => ({ code: 'none', message: 'it was taken' }),
    (e: { code: string; message: string }) => e,
  );
  return { code: error.code, message: error.message };
}

const FORMAT = 'ERR_CHECKPOINT_FORMAT';
const TRUNCATED = 'ERR_CHECKPOINT_TRUNCATED';
const nested = `{"a":${'['.repeat(5000)}`;

describe('headers', () => {
  const whole = { a: f32([2, 3], 0, 24), b: f32([], 24, 28), c: f32([0, 5], 28, 28), __metadata__: { format: 'pt' } };

  test('a whole one: scalars, empty tensors, metadata and keys of later versions are legal', async () => {
    const later = { ...whole, d: { dtype: 'F8_E4M3', shape: [3], data_offsets: [28, 31], scale: [1, { x: null }] } };
    const tensors = native.checkpointTensors(await native.openCheckpoint([file(later, 31)]));
    expect(tensors.map(({ name, dtype, shape }) => [name, dtype, shape])).toEqual([
      ['a', 'f32', [2, 3]],
      ['b', 'f32', []],
      ['c', 'f32', [0, 5]],
      ['d', 'f8_e4m3', [3]],
    ]);
  });

  const lies: [string, string, Header | string | Buffer, number?, string?][] = [
    ['a header longer than the file', TRUNCATED, whole, 28, '4096'],
    ['a header of 2^63 bytes', FORMAT, whole, 28, '0x8000000000000000'],
    ['a header of 2^64 - 1 bytes', FORMAT, whole, 28, '0xffffffffffffffff'],
    ['a header over the limit of the format', FORMAT, whole, 28, '100000001'],
    ['a header of nothing', FORMAT, '', 0],
    ['a header cut by its length', FORMAT, whole, 28, '20'],
    ['no JSON', FORMAT, '{"a": nonsense}'],
    ['a list', FORMAT, '[]'],
    ['something behind the object', FORMAT, '{} {}'],
    ['bytes that are no UTF-8', FORMAT, Buffer.from('7b22ff223a7b7d7d', 'hex')],
    ['nesting without end', FORMAT, nested],
    ['a trailing comma', FORMAT, '{"__metadata__": {},}'],
    [
      'a tensor twice',
      FORMAT,
      '{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[],"data_offsets":[1,2]}}',
      2,
    ],
    ['a key of a tensor twice', FORMAT, '{"a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}', 1],
    ['metadata twice', FORMAT, '{"__metadata__":{},"__metadata__":{}}'],
    ['metadata that is no text', FORMAT, { __metadata__: { format: 1 } }],
    ['no dtype', FORMAT, { a: { shape: [1], data_offsets: [0, 4] } }, 4],
    ['no shape', FORMAT, { a: { dtype: 'F32', data_offsets: [0, 4] } }, 4],
    ['no offsets', FORMAT, { a: { dtype: 'F32', shape: [1] } }, 4],
    ['a dtype that is none', FORMAT, { a: { dtype: 'F33', shape: [1], data_offsets: [0, 4] } }, 4],
    ['a dtype in small letters', FORMAT, { a: { dtype: 'f32', shape: [1], data_offsets: [0, 4] } }, 4],
    ['a number for a dtype', FORMAT, { a: { dtype: 32, shape: [1], data_offsets: [0, 4] } }, 4],
    ['a negative size', FORMAT, { a: { dtype: 'F32', shape: [-1], data_offsets: [0, 4] } }, 4],
    ['a broken size', FORMAT, { a: { dtype: 'F32', shape: [1.5], data_offsets: [0, 6] } }, 6],
    ['sizes whose product wraps around to the right number', FORMAT, { a: f32([2 ** 32, 2 ** 32 + 1], 0, 4) }, 4],
    ['seventeen dimensions', FORMAT, { a: f32(new Array<number>(17).fill(1), 0, 4) }, 4],
    ['three offsets', FORMAT, { a: { dtype: 'F32', shape: [1], data_offsets: [0, 4, 8] } }, 4],
    ['one offset', FORMAT, { a: { dtype: 'F32', shape: [1], data_offsets: [0] } }, 4],
    ['a negative offset', FORMAT, { a: { dtype: 'F32', shape: [1], data_offsets: [-4, 0] } }, 4],
    ['an end before its begin', FORMAT, { a: f32([1], 4, 0) }, 4],
    ['fewer bytes than the shape', FORMAT, { a: f32([2], 0, 4) }, 4],
    ['more bytes than the shape', FORMAT, { a: f32([1], 0, 8) }, 8],
    ['half a byte', FORMAT, { a: { dtype: 'F4', shape: [3], data_offsets: [0, 1] } }, 1],
    ['a hole between tensors', FORMAT, { a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12],
    ['a hole before the first', FORMAT, { a: f32([1], 4, 8) }, 8],
    ['tensors that overlap', FORMAT, { a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12],
    ['two tensors at one place', FORMAT, { a: f32([1], 0, 4), b: f32([1], 0, 4) }, 4],
    ['data behind the last tensor', FORMAT, { a: f32([1], 0, 4) }, 5],
    ['data cut short', TRUNCATED, { a: f32([2], 0, 8) }, 7],
    ['offsets far beyond the file', TRUNCATED, { a: { dtype: 'U8', shape: [2 ** 52], data_offsets: [0, 2 ** 52] } }, 4],
  ];
  // A function of more parameters than its row has would be given a callback to wait for.
  test.each(lies)('%s', async (...[, code, header, data, length]) => {
    const path = file(header, data, length);
    const error = await refused(native.openCheckpoint([path]));
    expect(error.code).toBe(code);
    // It says which file.
    expect(error.message).toContain(path);
    expect(native.checkpointTensors(await native.openCheckpoint([file(whole, 28)]))).toHaveLength(3);
  });

  test('every length that a file can be cut to', async () => {
    const path = file(whole, 28);
    const bytes = readFileSync(path);
    const codes = new Set<string>();
    for (let length = 0; length < bytes.length; length++) {
      const cut = join(folder, 'cut.safetensors');
      writeFileSync(cut, bytes.subarray(0, length));
      codes.add((await refused(native.openCheckpoint([cut]))).code);
    }
    expect([...codes]).toEqual([TRUNCATED]);
  });
});

describe('files', () => {
  test('what is no file, or cannot be read, is said in the words of the system', async () => {
    for (const path of [join(folder, 'absent.safetensors'), folder]) {
      const error = await refused(native.openCheckpoint([path]));
      expect(error.code).toBe('ERR_CHECKPOINT_IO');
      expect(error.message).toContain(path);
    }
    expect((await refused(native.openCheckpoint([]))).code).toBe('ERR_CHECKPOINT_IO');
  });

  test('a tensor in two files', async () => {
    const paths = [file({ a: f32([1], 0, 4) }, 4), file({ b: f32([1], 0, 4), a: f32([1], 4, 8) }, 8)];
    const error = await refused(native.openCheckpoint(paths));
    expect(error.code).toBe('ERR_CHECKPOINT_DUPLICATE');
    for (const named of ["'a'", ...paths]) expect(error.message).toContain(named);
  });
});

describe('weights that a model wants', () => {
  const program = JSON.stringify({
    name: 'text',
    symbols: ['T'],
    values: [
      { kind: 'input', dtype: 'i32', shape: [{ terms: [{ sym: 'T' }] }] },
      { kind: 'weight', dtype: 'act', shape: [3, 2] },
      { kind: 'op', dtype: 'act', shape: [{ terms: [{ sym: 'T' }] }, 2] },
      { kind: 'weight', dtype: 'act', shape: [5, 2] },
      { kind: 'op', dtype: 'act', shape: [{ terms: [{ sym: 'T' }] }, 5] },
    ],
    inputs: [{ name: 'inputIds', kind: 'tokens', value: 0 }],
    weights: [
      { name: 'embed', shape: [3, 2], value: 1 },
      { name: 'both', shape: [5, 2], linear: true, parts: ['q', 'k'], value: 3 },
    ],
    ops: [
      { op: 'gather_rows', in: [1, 0], out: [2], path: 'embed' },
      { op: 'linear', in: [2, 3, null], out: [4], path: 'both' },
    ],
    outputs: { y: 4 },
    taps: {},
  });
  const options: ModelOptions = {
    programs: [program],
    names: {},
    format: 'f32',
    dtype: 'f32',
    backend: 'ref',
    threads: 1,
  };
  const load = async (header: Header, bytes: number, names: Record<string, string> = {}) => {
    const checkpoint = await native.openCheckpoint([file(header, bytes)]);
    return native.createModel(checkpoint, { ...options, names });
  };
  const embed = f32([3, 2], 0, 24);
  const q = f32([3, 2], 24, 48);
  const k = f32([2, 2], 48, 64);

  test('a checkpoint that has them', async () => {
    native.disposeModel(await load({ embed, q, k }, 64));
    native.disposeModel(await load({ 'model.embed': embed, q, k }, 64, { embed: 'model.embed' }));
  });

  const cases: [string, string, Header, number, string[]][] = [
    ['absent', 'ERR_WEIGHT_MISSING', { embed, q }, 48, ["'k'", "'both'"]],
    ['of another shape', 'ERR_WEIGHT_SHAPE', { embed: f32([2, 3], 0, 24), q, k }, 64, ["'embed'", '[3, 2]', '[2, 3]']],
    ['of another rank', 'ERR_WEIGHT_SHAPE', { embed: f32([6], 0, 24), q, k }, 64, ["'embed'", '[3, 2]', '[6]']],
    [
      'parts with too few rows',
      'ERR_WEIGHT_SHAPE',
      { embed, q, k: f32([1, 2], 48, 56) },
      56,
      ["'both'", "'k'", '[1, 2]'],
    ],
    [
      'parts with too many rows',
      'ERR_WEIGHT_SHAPE',
      { embed, q, k: f32([3, 2], 48, 72) },
      72,
      ["'both'", "'k'", '[3, 2]'],
    ],
    [
      'parts of another width',
      'ERR_WEIGHT_SHAPE',
      { embed, q, k: f32([2, 3], 48, 72) },
      72,
      ["'both'", "'k'", '[2, 3]'],
    ],
    ['a part without rows', 'ERR_WEIGHT_SHAPE', { embed, q, k: f32([], 48, 52) }, 52, ["'both'", "'k'"]],
    [
      'of integers',
      'ERR_WEIGHT_DTYPE',
      { embed: { dtype: 'I32', shape: [3, 2], data_offsets: [0, 24] }, q, k },
      64,
      ["'embed'", 'i32'],
    ],
    [
      'of a type that no op reads',
      'ERR_WEIGHT_DTYPE',
      {
        embed: { dtype: 'F8_E5M2', shape: [3, 2], data_offsets: [0, 6] },
        q: f32([3, 2], 6, 30),
        k: f32([2, 2], 30, 46),
      },
      46,
      ["'embed'", 'f8_e5m2'],
    ],
  ];
  test.each(cases)('%s', async (_, code, header, bytes, named) => {
    const error = await refused(load(header, bytes));
    expect(error.code).toBe(code);
    for (const name of named) expect(error.message).toContain(name);
  });

  test('a file that is cut while it is open', async () => {
    const path = file({ embed, q, k }, 64);
    const checkpoint = await native.openCheckpoint([path]);
    truncateSync(path, 100);
    const error = await refused(native.createModel(checkpoint, options));
    expect(error.code).toBe('ERR_CHECKPOINT_CHANGED');
    expect(error.message).toContain(path);
  });

  test('unaligned data is read all the same', async () => {
    const header = { pad: { dtype: 'U8', shape: [1], data_offsets: [0, 1] } };
    const shifted = Object.fromEntries(
      Object.entries({ embed, q, k }).map(([name, e]) => {
        const [begin, end] = e.data_offsets as [number, number];
        return [name, { ...e, data_offsets: [begin + 1, end + 1] }];
      }),
    );
    native.disposeModel(await load({ ...header, ...shifted }, 65));
  });
});

describe('model folders', () => {
  const source = join(fixtureModels, 'llama');
  const weights = readFileSync(join(source, 'model.safetensors'));
  const length = Number(weights.readBigUInt64LE(0));
  const header = JSON.parse(weights.toString('utf8', 8, 8 + length)) as Header;
  const data = weights.subarray(8 + length);

  function model(name: string, changed: Header, bytes = data): string {
    const path = join(folder, name);
    mkdirSync(path);
    cpSync(source, path, { recursive: true });
    const text = Buffer.from(JSON.stringify(changed));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(text.length));
    writeFileSync(join(path, 'model.safetensors'), Buffer.concat([prefix, text, bytes]));
    return path;
  }

  const norm = 'model.layers.1.input_layernorm.weight';
  const renamed = Object.fromEntries(Object.entries(header).map(([k, v]) => [k === norm ? 'model.other' : k, v]));

  test.each([
    ['a tensor under another name', 'ERR_WEIGHT_MISSING', renamed, data, [norm]],
    [
      'a shape of another model',
      'ERR_WEIGHT_SHAPE',
      { ...header, [norm]: { ...header[norm], shape: [8, 8] } },
      data,
      [norm, '[8, 8]'],
    ],
    ['data cut short', TRUNCATED, header, data.subarray(0, -2), ['model.safetensors']],
  ])('%s', async (name, code, changed, bytes, named) => {
    const error = await refused(LLM.load(model(name.replaceAll(' ', '-'), changed as Header, bytes)));
    expect(error.code).toBe(code);
    for (const part of named) expect(error.message).toContain(part);
    // The process goes on, and the next model is served.
    const llm = await LLM.load(source, { dtype: 'float32' });
    const { outputs } = await llm.generate([473], { temperature: 0, maxTokens: 2, ignoreEos: true });
    expect(outputs[0]!.tokenIds).toHaveLength(2);
    await llm.dispose();
  });

  test('a shard that is missing', async () => {
    const path = model('missing shard', header);
    const shard = (file: string) => Object.fromEntries(Object.keys(header).map((k) => [k, file]));
    writeFileSync(
      join(path, 'model.safetensors.index.json'),
      JSON.stringify({ weight_map: { ...shard('model.safetensors'), [norm]: 'model-00002-of-00002.safetensors' } }),
    );
    const error = await refused(LLM.load(path));
    expect(error.code).toBe('ERR_CHECKPOINT_MISSING_SHARD');
    expect(error.message).toContain('model-00002-of-00002.safetensors');
  });

  test('a folder that is missing', async () => {
    const path = join(folder, 'nowhere');
    const error = await refused(LLM.load(path));
    expect(error.code).toBe('ERR_MODEL_NOT_FOUND');
    expect(error.message).toContain(path);
  });
});
