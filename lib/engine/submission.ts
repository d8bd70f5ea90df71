/** From a prompt to what the engine takes: ids expanded, items mapped and placed, sampling resolved. Whatever can be wrong is found here. */
import { createHash, randomBytes } from 'node:crypto';
import type { ModelConfig } from '../config/model-config';
import type { PoolingMode } from '../config/pooling';
import { OcelliError } from '../errors';
import { InputContext } from '../inputs/context';
import type { LLMInputs, Spans } from '../inputs/registry';
import { PictureHolds } from '../media/decode-cache';
import type { ModelHooksOfClass, PlacedItem } from '../models/hooks';
import { INPUT_REGISTRY, MULTIMODAL_REGISTRY } from '../multimodal';
import type { EngineItem, EngineRequest, EngineSampling } from '../native';
import type { TracedModel } from '../nn';
import type { Segment, Tokenizer } from '../tokenizer';
import type { EncodableItem, ItemMapper } from './items';
import type { TokenizedPrompt } from './prompt';
import type { ResolvedSampling } from './sampling-params';
import type { RequestOptions } from './types';

export interface BuiltRequest {
  native: Omit<EngineRequest, 'id'>;
  promptTokenIds: readonly number[];
  prompt?: string;
  imageTokens: number;
  sampling: ResolvedSampling;
}

export interface ExpandedPrompt {
  inputs: ProcessedInputs;
  /** Placeholders by modality. */
  placeholders: Record<string, number>;
}

export interface SubmissionContext {
  config: ModelConfig;
  traced: TracedModel;
  tokenizer: Tokenizer | undefined;
  items: ItemMapper;
}

export class Submission {
  private seeded = 0;

  constructor(private readonly ctx: SubmissionContext) {}

  /**
   * Loads the items and expands the placeholders; no tensors yet.
   * @param holds the caller's, of the pictures that are decoded: it lets them go
   */
  async expand(prompt: TokenizedPrompt, holds: PictureHolds, signal?: AbortSignal): Promise<ExpandedPrompt> {
    const { config, traced } = this.ctx;
    const given = prompt.multiModalData ?? {};
    MULTIMODAL_REGISTRY.checkLimits(config, given);
    this.checkLength(prompt.promptTokenIds);
    const { allowedLocalMediaPath, allowedMediaDomains } = config.options;
    const data = await MULTIMODAL_REGISTRY.loadData(given, {
      ...(allowedLocalMediaPath === undefined ? {} : { allowedLocalMediaPath }),
      ...(allowedMediaDomains === undefined ? {} : { allowedMediaDomains }),
      trusted: prompt.trusted,
      holds,
      ...(signal ? { signal } : {}),
    });
    const inputs = await processInput(config, this.ctx.tokenizer, {
      promptTokenIds: prompt.promptTokenIds,
      ...(prompt.prompt === undefined ? {} : { prompt: prompt.prompt }),
      ...(prompt.segments ? { segments: prompt.segments } : {}),
      ...(Object.keys(data).length > 0 ? { multiModalData: data } : {}),
      ...(prompt.mmProcessorKwargs ? { mmProcessorKwargs: prompt.mmProcessorKwargs } : {}),
    });
    this.checkLength(inputs.promptTokenIds);
    const placeholders: Record<string, number> = {};
    for (const [modality, id] of Object.entries(traced.placeholderTokenIds)) {
      placeholders[modality] = inputs.promptTokenIds.reduce((n, token) => n + (token === id ? 1 : 0), 0);
    }
    return { inputs, placeholders };
  }

  /** @param pooling for an embedding in place of tokens */
  async build(
    prompt: TokenizedPrompt,
    sampling: ResolvedSampling,
    options: RequestOptions,
    pooling?: PoolingMode,
  ): Promise<BuiltRequest> {
    const native = this.sampling(sampling);
    const { items, inputs, placeholders } = await this.mapped(prompt, options.signal);
    const { promptTokenIds } = inputs;
    const placed = this.place(promptTokenIds, items);
    const maxTokens = sampling.maxTokens ?? Math.max(1, this.ctx.config.maxModelLen - promptTokenIds.length);
    return {
      native: {
        promptTokenIds: Int32Array.from(promptTokenIds),
        ...this.positions(promptTokenIds, placed),
        items: placed.map(({ item, ranges }) => engineItem(item, ranges)).sort((a, b) => a.ranges[0]! - b.ranges[0]!),
        ...(inputs.atomicSpans.length > 0 ? { atomicSpans: Int32Array.from(inputs.atomicSpans.flat()) } : {}),
        sampling: { ...native, maxTokens },
        priority: options.priority ?? 0,
        ...(pooling ? { pooling } : {}),
        ...(options.cacheSalt === undefined
          ? {}
          : { cacheSalt: new Uint8Array(createHash('sha256').update(options.cacheSalt).digest()) }),
      },
      promptTokenIds,
      ...(inputs.prompt === undefined ? {} : { prompt: inputs.prompt }),
      imageTokens: Object.values(placeholders).reduce((a, b) => a + b, 0),
      sampling,
    };
  }

  private async mapped(
    prompt: TokenizedPrompt,
    signal?: AbortSignal,
  ): Promise<ExpandedPrompt & { items: EncodableItem[] }> {
    const holds = new PictureHolds();
    try {
      const expanded = await this.expand(prompt, holds, signal);
      const { multiModalData, mmProcessorKwargs } = expanded.inputs;
      const items = multiModalData ? await this.ctx.items.map(multiModalData, mmProcessorKwargs) : [];
      return { ...expanded, items };
    } finally {
      holds.letGo();
    }
  }

  private checkLength(ids: readonly number[]): void {
    const { maxModelLen } = this.ctx.config;
    if (ids.length === 0)
      throw new OcelliError('ERR_PROMPT_EMPTY', 'Expected at least one token for the prompt but received none');
    if (ids.length < maxModelLen) return;
    throw new OcelliError(
      'ERR_PROMPT_TOO_LONG',
      `Expected a prompt of at most ${maxModelLen - 1} tokens, pictures included, but received ${ids.length}`,
      {
        hint: 'Shorten the prompt, send fewer or smaller pictures, or load the engine with a larger maxModelLen.',
        details: { maxModelLen, received: ids.length },
      },
    );
  }

  /** Picture k owns the next placeholders of its modality, as many as it has rows. */
  private place(
    ids: readonly number[],
    items: readonly EncodableItem[],
  ): { item: EncodableItem; ranges: [number, number][] }[] {
    const places: { item: EncodableItem; ranges: [number, number][] }[] = [];
    for (const [modality, tokenId] of Object.entries(this.ctx.traced.placeholderTokenIds)) {
      const own = items.filter((item) => item.modality === modality);
      const rows = own.reduce((sum, item) => sum + item.rows, 0);
      let at = -1;
      let found = 0;
      for (const id of ids) if (id === tokenId) found++;
      if (found !== rows) {
        throw new OcelliError(
          'ERR_PLACEHOLDER_COUNT',
          `Expected ${rows} ${modality} placeholders (token ${tokenId}) for ${own.length} item${own.length === 1 ? '' : 's'}` +
            `${own.length > 1 ? ` of ${own.map((i) => i.rows).join(' + ')} rows` : ''} but the prompt has ${found}`,
          {
            hint: 'Write one placeholder per item in the prompt; the input processor repeats each as often as its item has rows.',
            details: { modality, placeholders: found, rows: own.map((i) => i.rows) },
          },
        );
      }
      for (const item of own) {
        const ranges: [number, number][] = [];
        for (let left = item.rows; left > 0; left--) {
          at = ids.indexOf(tokenId, at + 1);
          const last = ranges.at(-1);
          if (last && last[0] + last[1] === at) last[1]++;
          else ranges.push([at, 1]);
        }
        places.push({ item, ranges });
      }
    }
    if (places.length === items.length) return places;
    const lost = items.find((item) => !(item.modality in this.ctx.traced.placeholderTokenIds))!;
    throw new OcelliError(
      'ERR_PLACEHOLDER_COUNT',
      `Expected the model to merge ${lost.modality} features but its forward has no border for them`,
      { hint: `Call mergeMultimodal(x, inputIds, features, tokenId, { modality: '${lost.modality}' }) in forward.` },
    );
  }

  private positions(
    ids: readonly number[],
    places: readonly { item: EncodableItem; ranges: [number, number][] }[],
  ): { positions?: Int32Array; positionDelta?: Int32Array } {
    const { config, traced } = this.ctx;
    const hooks = config.modelClass as unknown as ModelHooksOfClass;
    const items: PlacedItem[] = places.map(({ item: { modality, tensors }, ranges }) => ({
      modality,
      tensors,
      ranges,
    }));
    const placement = hooks.positions?.(new InputContext(config), ids, items);
    if (!placement) return {};
    const axes = traced.positionAxes;
    const { positions, delta } = placement;
    const deltas = typeof delta === 'number' ? new Array<number>(axes).fill(delta) : delta;
    const fits = deltas.length === axes && deltas.every((d) => d === null || Number.isSafeInteger(d));
    if (positions.length === axes * ids.length && fits)
      return { positions, positionDelta: Int32Array.from(deltas, (d) => d ?? stillAxis) };
    throw new OcelliError(
      'ERR_POSITIONS',
      `Expected ${axes} x ${ids.length} positions and an integer delta from ${config.architecture}.positions but received ${positions.length} and ${String(delta)}`,
    );
  }

  private sampling(s: ResolvedSampling): EngineSampling {
    const { config, tokenizer, traced } = this.ctx;
    const vocab = traced.vocabSize;
    const within = (ids: readonly number[], option: string): Int32Array => {
      const bad = ids.find((id) => id >= vocab);
      if (bad === undefined) return Int32Array.from(ids);
      throw new OcelliError('ERR_SAMPLING', `Expected token ids below ${vocab} for ${option} but received ${bad}`, {
        details: { option },
      });
    };
    const bias = Object.entries(s.logitBias).map(([id, b]): [number, number] => [Number(id), b]);
    within(
      bias.map(([id]) => id),
      'logitBias',
    );
    if (!tokenizer && (s.stop.length > 0 || s.badWords.length > 0))
      throw noTokenizer(s.stop.length > 0 ? 'stop strings' : 'badWords');
    const { eosTokenIds } = config.generationConfig;
    const eos = eosTokenIds.length > 0 ? eosTokenIds : [tokenizer?.eosTokenId].filter((id) => id !== undefined);
    return {
      n: s.n,
      temperature: s.temperature,
      topP: s.topP,
      topK: s.topK,
      minP: s.minP,
      seed: this.seed(s.seed),
      presencePenalty: s.presencePenalty,
      frequencyPenalty: s.frequencyPenalty,
      repetitionPenalty: s.repetitionPenalty,
      maxTokens: 1,
      minTokens: s.minTokens,
      logprobs: s.logprobs ?? -1,
      promptLogprobs: s.promptLogprobs ?? -1,
      stopTokenIds: within(s.stopTokenIds, 'stopTokenIds'),
      eosTokenIds: Int32Array.from(eos),
      ignoreEos: s.ignoreEos,
      logitBias: bias,
      allowedTokenIds: within(s.allowedTokenIds, 'allowedTokenIds'),
      badWords: s.badWords.flatMap((word) => badWordIds(tokenizer!, word)),
    };
  }

  /** A request's own seed; else one drawn from the engine's seed and the count of such requests, or at random. */
  private seed(own: number | undefined): bigint {
    if (own !== undefined) return BigInt.asUintN(64, BigInt(own));
    const { seed } = this.ctx.config.options;
    if (seed === undefined) return randomBytes(8).readBigUInt64LE();
    return createHash('sha256').update(`${seed}:${this.seeded++}`).digest().readBigUInt64LE();
  }
}

/**
 * The registered input processor on one prompt. What it hands back in other parts than it was given is tokenized from them. The
 * golden tests process their prompts by it too.
 */
export async function processInput(
  config: ModelConfig,
  tokenizer: Tokenizer | undefined,
  given: LLMInputs,
): Promise<ProcessedInputs> {
  const inputs = await INPUT_REGISTRY.processInput(config, given);
  const { segments, atomicSpans = [] } = inputs;
  const promptTokenIds =
    !segments || segments === given.segments ? inputs.promptTokenIds : idsOfSegments(tokenizer, segments);
  const spans = typeof atomicSpans === 'function' ? atomicSpans(promptTokenIds) : atomicSpans;
  return { ...inputs, promptTokenIds, atomicSpans: spans };
}

/** A prompt behind its input processor: ids and spans are there. */
export interface ProcessedInputs extends LLMInputs {
  atomicSpans: Spans;
}

function idsOfSegments(tokenizer: Tokenizer | undefined, segments: readonly Segment[]): number[] {
  return tokenizer
    ? tokenizer.encodeSegments(segments)
    : segments.flatMap((s) => {
        if ('text' in s && s.text !== '') throw noTokenizer('the text of an input processor');
        return 'text' in s ? [] : s.ids;
      });
}

/** What the engine reads as: this axis stays at 0. */
const stillAxis = -(2 ** 31);

function engineItem(item: EncodableItem, ranges: readonly (readonly [number, number])[]): EngineItem {
  return {
    hash: item.hash,
    encoder: item.program < 0 ? -1 : item.program - 1,
    inputs: item.inputs,
    symbols: item.symbols,
    ...(item.features ? { features: item.features } : {}),
    rows: item.rows,
    ranges: Int32Array.from(ranges.flat()),
  };
}

/** A word as it reads at the start of a text and, where that is other ids, behind a space. */
function badWordIds(tokenizer: Tokenizer, word: string): Int32Array[] {
  const bare = word.trimStart();
  const spellings = [bare, ` ${bare}`].map((w) =>
    tokenizer.encode(w, { addSpecialTokens: false, allowSpecial: false }),
  );
  const [first, second] = spellings as [number[], number[]];
  const same = first.length === second.length && first.every((id, i) => id === second[i]);
  return (same ? [first] : [first, second]).filter((ids) => ids.length > 0).map((ids) => Int32Array.from(ids));
}

export function noTokenizer(what: string): OcelliError {
  return new OcelliError('ERR_NO_TOKENIZER', `Expected a tokenizer for ${what} but the engine has none`, {
    hint: 'Load it without skipTokenizerInit, or send promptTokenIds and use stopTokenIds.',
  });
}
