/** The comparisons of one case: from messages to logprobs in float32; logits and flips, teacher-forced, in bfloat16. */
import { Tensor } from '../../dist/index';
import type { PromptPositions } from '../../dist/models/hooks';
import { argmax, differing, largestDifference, logSumExp, type Check } from './compare';
import type { GoldenCase, GoldenFolder, GoldenTensor } from './folder';
import type { EncodedItem, Forward, GoldenModel } from './model';
import { featureColumns, firstRows, floats, hiddenState, pixelsDiffer, rowError, visionState } from './stages';

/** One teacher-forced step: by how much the golden token led, and whether another one leads now. */
export interface Step {
  margin: number;
  flipped: boolean;
}

export interface CaseResult {
  name: string;
  checks: Check[];
  steps: Step[];
}

const equal = (what: string, a: ArrayLike<number | bigint>, b: ArrayLike<number | bigint>): Check => ({
  what,
  error: differing(a, b),
  bound: 0,
});

interface Answer {
  checks: Check[];
  items: EncodedItem[];
  /** Absent where the prompt came out otherwise: what follows would only repeat the failure, in words that say less. */
  answered?: { ids: readonly number[]; placement: PromptPositions; forward: Forward };
}

/** A case through the model, its golden tokens forced behind the prompt. */
export async function answer(model: GoldenModel, folder: GoldenFolder, golden: GoldenCase): Promise<Answer> {
  const checks = folder.processedIds ? [] : await checkText(model, golden);
  const data = await itemsOf(model, folder, golden);
  const kwargs = { ...golden.processor_kwargs, ...(golden.flat_images ? flat(model) : {}) };
  const special = addsSpecialTokens(model, golden);
  const expanded = await model.expand(golden.prompt_token_ids, golden.prompt, special, data, kwargs);
  const ids = expanded.promptTokenIds;
  checks.push(equal('input_ids', ids, golden.input_ids));
  const mapped = await model.map(data, expanded.mmProcessorKwargs ?? kwargs);
  checks.push(
    equal(
      'image_token_counts',
      mapped.map((item) => item.rows),
      golden.image_token_counts,
    ),
  );
  if (checks.some((c) => c.error > 0 && /input_ids|counts/.test(c.what))) return { checks, items: [] };

  const items: EncodedItem[] = [];
  for (const item of mapped) items.push(await model.encode(item));
  const placed = model.place(ids, items);
  const placement = model.positions(ids, placed);
  const forced = golden.greedy.token_ids.slice(0, -1);
  const forward = await model.forward(ids, forced, items, placed, placement, expanded.atomicSpans);
  return { checks, items, answered: { ids, placement, forward } };
}

export async function checkCase(model: GoldenModel, folder: GoldenFolder, golden: GoldenCase): Promise<CaseResult> {
  const { checks, items, answered } = await answer(model, folder, golden);
  if (!answered) return { name: golden.name, checks, steps: [] };
  const { ids, placement, forward } = answered;
  const tensors = folder.tensors(golden.name);
  if (model.setting.dtype === 'bfloat16') {
    checks.push(...driftOf(golden, forward, tensors, ids.length));
  } else {
    // The reference accumulates in float64: half of what float32 sums in another order may cost.
    const bound = model.setting.backend === 'ref' ? 5e-6 : 1e-5;
    for (const [name, tensor] of tensors) {
      checks.push(stageOf(name, tensor, { items, forward, placement, prompt: ids.length, bound }));
    }
    checks.push(...answerOf(model, golden, forward, ids.length));
  }
  return { name: golden.name, checks, steps: stepsOf(golden, forward, ids.length) };
}

/** What treats each of several pictures as if it were alone, where the model would not. */
const flat = ({ config }: GoldenModel): Record<string, unknown> => ({
  visionAspectRatio: config.hfConfig.vision_aspect_ratio,
});

async function checkText(model: GoldenModel, golden: GoldenCase): Promise<Check[]> {
  const { prompt, messages } = golden;
  if (prompt === null) return [];
  const addSpecialTokens = addsSpecialTokens(model, golden);
  const checks = [
    equal('prompt_token_ids', model.tokenizer.encode(prompt, { addSpecialTokens }), golden.prompt_token_ids),
  ];
  if (messages !== undefined) {
    const text = await model.tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });
    checks.push({ what: 'prompt', error: text === prompt ? 0 : 1, bound: 0 });
  }
  return checks;
}

/** A prompt that spells its own BOS was tokenized without another one. */
function addsSpecialTokens({ tokenizer }: GoldenModel, { add_special_tokens: given, prompt }: GoldenCase): boolean {
  if (given !== undefined || prompt === null) return given ?? true;
  const [bos] = tokenizer.encode('');
  return bos === undefined || tokenizer.encode(prompt, { addSpecialTokens: false })[0] !== bos;
}

async function itemsOf(
  model: GoldenModel,
  folder: GoldenFolder,
  golden: GoldenCase,
): Promise<Record<string, unknown[]>> {
  if (golden.image_embeds !== undefined) {
    const { shape, data } = folder.tensor(golden.image_embeds);
    const [count = 0, ...one] = shape;
    const size = data.length / count;
    return {
      image: Array.from({ length: count }, (_, i) => new Tensor('float32', one, data.slice(i * size, (i + 1) * size))),
    };
  }
  if (golden.images.length === 0) return {};
  return model.decode({ image: golden.images.map((name) => folder.picture(name)) });
}

interface Stages {
  items: readonly EncodedItem[];
  forward: Forward;
  placement: PromptPositions;
  prompt: number;
  bound: number;
}

/** One stored tensor against its counterpart. A name that nothing answers to fails: a new stage must not go unlooked at. */
function stageOf(what: string, golden: GoldenTensor, stages: Stages): Check {
  const { items, forward, placement, prompt, bound } = stages;
  const near = (ours: ArrayLike<number> | undefined): Check => ({ what, error: rowError(ours, golden), bound });
  const width = golden.shape.at(-1)!;
  const [stage = '', which = ''] = what.split(/\.(.*)/);
  const rows = (tensor: { shape: number[] } | undefined): Float32Array | undefined =>
    tensor === undefined ? undefined : firstRows(tensor as never, prompt);
  switch (stage) {
    case 'pixel_values':
      return { what, error: pixelsDiffer(items, golden), bound: 0 };
    case 'image_sizes':
    case 'image_grid_thw':
      return equal(
        what,
        items.flatMap((i) => integersOf(i, stage)),
        golden.data,
      );
    case 'position_ids':
      return equal(what, placement.positions, golden.data);
    case 'rope_deltas':
      return equal(what, [placement.delta as number], golden.data);
    case 'vision_hidden':
      return near(visionState(items, Number(which)));
    case 'image_features':
      return near(featureColumns(items, 0, width));
    case 'deepstack_features':
      return near(featureColumns(items, (Number(which) + 1) * width, width));
    case 'inputs_embeds':
      return near(rows(forward.taps.inputs_embeds));
    case 'hidden':
      return near(rows(hiddenState(forward.taps, which)));
    case 'logits':
      return near(rows(forward.logits));
    case 'logits_last':
      return near(rowOf(forward, prompt - 1));
    // Given, or said otherwise by ids and spans.
    case 'image_embeds':
    case 'token_type_ids':
    case 'batch_num_images':
    case 'pixel_attention_mask':
      return { what, error: 0, bound: 0 };
    default:
      return { what, error: Infinity, bound };
  }
}

/** image_sizes -> the mapper's imageSizes, or what it is called in the checkpoint's own language. */
function integersOf(item: EncodedItem, name: string): ArrayLike<number | bigint> & (number | bigint)[] {
  const camel = name.replace(/_(\w)/g, (_, c: string) => c.toUpperCase());
  const tensor = item.tensors[camel] ?? item.tensors[name];
  return tensor ? [...(tensor.data as Int32Array)] : [];
}

function rowOf(forward: Forward, row: number): Float32Array {
  const width = forward.logits.shape[1]!;
  return floats(forward.logits).subarray(row * width, (row + 1) * width);
}

/** Tokens and logprobs. Each step saw the golden tokens before it, so all being equal is what decoding freely would give. */
function answerOf(model: GoldenModel, golden: GoldenCase, forward: Forward, prompt: number): Check[] {
  const { token_ids: tokens, logprobs, top_logprobs: tops, text } = golden.greedy;
  let error = 0;
  const chosen = tokens.map((token, step) => {
    const row = rowOf(forward, prompt - 1 + step);
    const sum = logSumExp(row);
    for (const [id, logprob] of [[token, logprobs[step]!], ...tops[step]!]) {
      error = Math.max(error, Math.abs(row[id!]! - sum - logprob!));
    }
    return argmax(row);
  });
  const checks = [equal('greedy', chosen, tokens), { what: 'logprobs', error, bound: 1e-4 }];
  if (text !== undefined) {
    const same = model.tokenizer.decode(tokens, { skipSpecialTokens: false }) === text;
    checks.push({ what: 'text', error: same ? 0 : 1, bound: 0 });
  }
  return checks;
}

/** Logits against float32's, by what bfloat16 costs the implementation that the goldens come from. */
function driftOf(
  golden: GoldenCase,
  forward: Forward,
  tensors: ReadonlyMap<string, GoldenTensor>,
  prompt: number,
): Check[] {
  if (!golden.bfloat16) return [];
  const all = tensors.get('logits');
  const ours = all ? firstRows(forward.logits, prompt) : rowOf(forward, prompt - 1);
  const stored = (all ?? tensors.get('logits_last')!).data as Float32Array;
  return [{ what: 'logits', error: largestDifference(ours, stored), bound: 1.5 * golden.bfloat16.logit_difference }];
}

function stepsOf(golden: GoldenCase, forward: Forward, prompt: number): Step[] {
  return golden.greedy.token_ids.map((token, step) => {
    const [first, second] = golden.greedy.top_logprobs[step]!;
    return { margin: first![1] - second![1], flipped: argmax(rowOf(forward, prompt - 1 + step)) !== token };
  });
}
