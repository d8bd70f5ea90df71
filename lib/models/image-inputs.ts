/** What the input processors and dummy data of image models share. */
import { OcelliError } from '../errors';
import type { DummyData, LLMInputs } from '../inputs/registry';
import { isTensor, type Tensor } from '../media/tensor';
import { isRawImage, type RawImage } from '../media/types';
import { MULTIMODAL_REGISTRY, type MultiModalData } from '../multimodal';
import { repeatAndPadPlaceholderTokens } from '../multimodal/placeholders';
import type { Segment } from '../tokenizer';

export function blackImage(width: number, height: number): RawImage {
  return { width, height, channels: 3, data: new Uint8Array(width * height * 3) };
}

/** `count` pictures' placeholders, then zeros up to seqLen (vLLM v0.6.3, clip.py, dummy_seq_data_for_clip). */
export function dummyImages(
  seqLen: number,
  count: number,
  tokenId: number,
  tokens: number,
  image: RawImage,
): DummyData {
  return dummyItems(seqLen, [{ modality: 'image', count, tokenId, tokens, item: image }]);
}

/** The same of several modalities, one after the other. */
export function dummyItems(
  seqLen: number,
  items: readonly { modality: string; count: number; tokenId: number; tokens: number; item: unknown }[],
): DummyData {
  const present = items.filter(({ count }) => count > 0);
  const placeholders = present.flatMap(({ count, tokens, tokenId }) => new Array<number>(count * tokens).fill(tokenId));
  const padding = new Array<number>(Math.max(0, seqLen - placeholders.length)).fill(0);
  const data = present.map(({ modality, count, item }) => [modality, new Array<unknown>(count).fill(item)]);
  return {
    promptTokenIds: [...placeholders, ...padding],
    ...(data.length > 0 ? { multiModalData: Object.fromEntries(data) as MultiModalData } : {}),
  };
}

/** A part of what stands in a picture's place. `glue` is plain text that becomes one with the text beside it, as if it had been written there. */
export type Piece = Segment | { glue: string };

/** What is known of the items of a family, whatever they are given as. P: what a picture's place in the prompt depends on. */
export interface ImageRows<P = number> {
  /** What stands for a picture in the prompt as it is written. */
  placeholderTokenId: number;
  /** Of a feature row: embeddings must be as wide. */
  width: number;
  ofPicture(picture: RawImage): P;
  /** Of a picture that a processor has mapped already, or of embeddings beside other tensors: the keyword tensors of one item. */
  ofMapped(tensors: Readonly<Record<string, Tensor>>): P;
  /** Of embeddings alone. */
  ofEmbeds(rows: number): P;
}

/** Each placeholder becomes as many as its picture has rows. Everything else of the request, its processor kwargs included, stays. */
export function expandImages(inputs: LLMInputs, rows: Omit<ImageRows, 'ofEmbeds'>): LLMInputs {
  const { placeholderTokenId } = rows;
  const repeatCount = imageRows(inputs, rows);
  if (repeatCount.length === 0) return inputs;
  // The text stays what the user wrote.
  const [, promptTokenIds] = repeatAndPadPlaceholderTokens(undefined, undefined, inputs.promptTokenIds, {
    placeholderTokenId,
    repeatCount,
  });
  return { ...inputs, promptTokenIds };
}

/** Rows of each picture. */
export function imageRows(inputs: LLMInputs, rows: Omit<ImageRows, 'ofEmbeds'>): number[] {
  return picturesOf(inputs, {
    ...rows,
    ofEmbeds: (count) => count,
    ofMapped: (tensors) => tensors.imageEmbeds?.shape.at(-2) ?? rows.ofMapped(tensors),
  });
}

/** Each placeholder becomes what `write` says: ids and text around them, which is tokenized with the text beside it. */
export function writeImages<P>(
  inputs: LLMInputs,
  rows: ImageRows<P>,
  write: (picture: P) => readonly Piece[],
): LLMInputs {
  const pictures = picturesOf(inputs, rows);
  if (pictures.length === 0) return inputs;
  return writeItems(inputs, new Map([[rows.placeholderTokenId, pictures.map(write)]]));
}

/** @param written for each placeholder token, what stands in the place of its first, second ... */
export function writeItems(inputs: LLMInputs, written: ReadonlyMap<number, readonly (readonly Piece[])[]>): LLMInputs {
  const given = inputs.segments ?? [{ ids: inputs.promptTokenIds }];
  const left = new Map([...written].map(([token, items]) => [token, items.values()]));
  const pieces = given.flatMap((segment): readonly Piece[] => {
    if ('text' in segment || !segment.ids.some((id) => written.has(id))) return [segment];
    return segment.ids.flatMap((id) => (left.get(id)?.next().value as readonly Piece[] | undefined) ?? [{ ids: [id] }]);
  });
  return { ...inputs, segments: glued(pieces) };
}

function glued(pieces: readonly Piece[]): Segment[] {
  const segments: Segment[] = [];
  let before = '';
  for (const piece of pieces) {
    const last = segments.at(-1);
    if ('glue' in piece) {
      if (last && 'text' in last) segments[segments.length - 1] = { ...last, text: last.text + piece.glue };
      else before += piece.glue;
    } else if ('text' in piece) {
      segments.push({ ...piece, text: before + piece.text });
      before = '';
    } else {
      if (before !== '') segments.push({ text: before, trusted: true });
      before = '';
      segments.push(piece);
    }
  }
  return before === '' ? segments : [...segments, { text: before, trusted: true }];
}

/** What is known of each item. ERR_PLACEHOLDER_COUNT where the prompt has more or fewer placeholders. */
function picturesOf<P>(inputs: LLMInputs, rows: ImageRows<P>): P[] {
  const images = imagesOf(inputs);
  checkPlaceholders(inputs.promptTokenIds, rows.placeholderTokenId, images.length, 'image');
  return images.map((image, index) => pictureOf(image, index, rows));
}

const called = { image: 'pictures', video: 'videos' } as const;

/** ERR_PLACEHOLDER_COUNT unless there is one placeholder for each item. */
export function checkPlaceholders(
  ids: readonly number[],
  tokenId: number,
  items: number,
  modality: keyof typeof called,
): void {
  const found = ids.filter((id) => id === tokenId).length;
  if (found === items) return;
  throw new OcelliError(
    'ERR_PLACEHOLDER_COUNT',
    `Expected one ${modality} placeholder (token ${tokenId}) for each of ${items} ${called[modality]} but the prompt has ${found}`,
    {
      hint: `Write <${modality}>, as the model spells it, once per item in the prompt, or use chat, whose template does.`,
      details: { placeholders: found, [`${modality}s`]: items },
    },
  );
}

/** The pictures of a request, each as it was given. */
export function imagesOf(inputs: LLMInputs): readonly unknown[] {
  const data = inputs.multiModalData?.image ?? undefined;
  return data === undefined ? [] : MULTIMODAL_REGISTRY.getPlugin('image').items(data);
}

function pictureOf<P>(image: unknown, index: number, rows: ImageRows<P>): P {
  if (isTensor(image)) return rows.ofEmbeds(embeddingRows(image, rows.width, index));
  if (isRawImage(image)) return rows.ofPicture(image);
  if (typeof image !== 'object' || image === null) {
    throw new OcelliError(
      'ERR_IMAGE_TYPE',
      `Expected a decoded picture, embeddings or keyword tensors at index ${index} of multiModalData.image but received ${typeof image}`,
      { details: { index } },
    );
  }
  const tensors = image as Record<string, Tensor>;
  const { imageEmbeds } = tensors;
  if (!isTensor(imageEmbeds)) return rows.ofMapped(tensors);
  const count = embeddingRows(imageEmbeds, rows.width, index);
  return Object.keys(tensors).length === 1 ? rows.ofEmbeds(count) : rows.ofMapped(tensors);
}

const floating: readonly string[] = ['float32', 'bfloat16', 'float16'];

/** Rows of embeddings [F, H], or [1, F, H]. */
export function embeddingRows(
  { dtype, shape }: Tensor,
  width: number,
  index: number,
  modality: keyof typeof called = 'image',
): number {
  const [rows = 0, columns] = shape.slice(-2);
  const items = shape.slice(0, -2);
  if (columns === width && rows > 0 && floating.includes(dtype) && items.length <= 1 && items.every((n) => n === 1)) {
    return rows;
  }
  throw new OcelliError(
    'ERR_IMAGE_EMBEDS',
    `Expected floating-point ${modality} embeddings of shape [F, ${width}] at index ${index} but received ${dtype} [${shape.join(', ')}]`,
    { details: { index } },
  );
}

/** The numbers of an integer tensor: sizes and grids. */
export function integersOf({ dtype, shape, data }: Tensor): number[] {
  const { buffer, byteOffset, byteLength } = data;
  if (dtype === 'int32') return [...new Int32Array(buffer, byteOffset, byteLength / 4)];
  if (dtype === 'int64') return Array.from(new BigInt64Array(buffer, byteOffset, byteLength / 8), Number);
  throw new OcelliError(
    'ERR_IMAGE_SIZE',
    `Expected int32 or int64 for sizes of pictures but received ${dtype} [${shape.join(', ')}]`,
  );
}

/** start, length of each run of a token. */
export function runsOf(ids: readonly number[], token: number): [start: number, length: number][] {
  const runs: [number, number][] = [];
  ids.forEach((id, at) => {
    const last = runs.at(-1);
    if (id !== token) return;
    if (last && last[0] + last[1] === at) last[1]++;
    else runs.push([at, 1]);
  });
  return runs;
}
