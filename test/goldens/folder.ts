/** A golden folder: a checkpoint with `cases.json` and `tensors.safetensors`, what another implementation made of given inputs. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { TemplateMessage } from '../../dist/tokenizer';

export interface GoldenCase {
  name: string;
  messages?: TemplateMessage[];
  /** Null where only ids are given. */
  prompt: string | null;
  add_special_tokens?: boolean;
  /** One id per placeholder; `input_ids` have as many as there are feature rows. */
  prompt_token_ids: number[];
  input_ids: number[];
  image_token_counts: number[];
  images: string[];
  /** Key of a tensor [pictures, rows, width] that takes the encoder's place. */
  image_embeds?: string;
  /** Each of several pictures is processed as if it were alone. */
  flat_images?: boolean;
  processor_kwargs?: Record<string, unknown>;
  /** Stop tokens ignored; per step the five best (token, logprob). */
  greedy: { token_ids: number[]; logprobs: number[]; top_logprobs: [number, number][][]; text?: string };
  /** How far the other implementation moves when it computes in bfloat16. */
  bfloat16?: { logit_difference: number };
}

export type GoldenTensor = { shape: number[]; data: Float32Array | BigInt64Array | Int32Array | Uint8Array };

export interface GoldenFolder {
  path: string;
  name: string;
  architectures: string[];
  cases: GoldenCase[];
  /** prompt_token_ids are the processor's, which adds to what the prompt spells. */
  processedIds: boolean;
  /** Of one case, by the name behind the case's. */
  tensors(caseName: string): Map<string, GoldenTensor>;
  tensor(key: string): GoldenTensor;
  picture(name: string): string;
}

export function readGoldenFolder(path: string): GoldenFolder {
  const json = <T>(file: string): T => JSON.parse(readFileSync(join(path, file), 'utf8')) as T;
  const all = readTensors(join(path, 'tensors.safetensors'));
  const pictures = [join(path, '../images'), join(path, '../../images')];
  return {
    path,
    name: basename(path),
    architectures: json<{ architectures: string[] }>('config.json').architectures,
    cases: json<{ cases: GoldenCase[] }>('cases.json').cases,
    processedIds: json<{ prompt?: string }>('cases.json').prompt !== undefined,
    tensors: (name) =>
      new Map(
        [...all].filter(([key]) => key.startsWith(`${name}.`)).map(([key, t]) => [key.slice(name.length + 1), t]),
      ),
    tensor: (key) => {
      const tensor = all.get(key);
      if (!tensor) throw new Error(`Expected the tensor '${key}' in ${path}/tensors.safetensors`);
      return tensor;
    },
    picture: (name) => {
      const found = pictures.map((folder) => join(folder, name)).find((file) => existsSync(file));
      if (found === undefined) throw new Error(`Expected the picture ${name} in ${pictures.join(' or ')}`);
      return found;
    },
  };
}

/** A reader of its own: the library's is among what is compared. */
function readTensors(file: string): Map<string, GoldenTensor> {
  const bytes = readFileSync(file);
  const header = Number(bytes.readBigUInt64LE(0));
  const entries = JSON.parse(bytes.toString('utf8', 8, 8 + header)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const arrays = { F32: Float32Array, I64: BigInt64Array, I32: Int32Array, U8: Uint8Array, BOOL: Uint8Array } as const;
  const tensors = new Map<string, GoldenTensor>();
  for (const [key, { dtype, shape, data_offsets: offsets }] of Object.entries(entries)) {
    if (key === '__metadata__') continue;
    const array = arrays[dtype as keyof typeof arrays];
    if (!array)
      throw new Error(
        `Expected one of ${Object.keys(arrays).join(', ')} for '${key}' in ${file} but received ${dtype}`,
      );
    // A copy: the file's offsets are aligned to nothing.
    const data = new Uint8Array(bytes.subarray(8 + header + offsets[0], 8 + header + offsets[1])).buffer;
    tensors.set(key, { shape, data: new array(data) });
  }
  return tensors;
}
