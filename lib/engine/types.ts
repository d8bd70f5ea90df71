/** What goes into an engine and what comes out of it. */
import type { PoolingMode } from '../config/pooling';
import type { OcelliError } from '../errors';
import type { Tensor } from '../media/tensor';
import type { ImageInput } from '../media/types';
import type { MultiModalData } from '../multimodal/types';

export interface Media {
  multiModalData?: MultiModalData;
  /** Override the engine's mmProcessorKwargs for this prompt. */
  mmProcessorKwargs?: Record<string, unknown>;
}

export interface TextPrompt extends Media {
  prompt: string;
}

/** Ids with one placeholder per item; the input processor expands them. */
export interface TokensPrompt extends Media {
  promptTokenIds: readonly number[];
}

/** A text, one prompt of token ids, or either with pictures. Texts are trusted: special tokens in them are read, and a BOS is not added to one that spells it. */
export type Prompt = string | readonly number[] | TextPrompt | TokensPrompt;

export type ContentPart =
  | { type: 'text'; text: string }
  | { type: 'image'; image: ImageInput }
  | { type: 'image_url'; image_url: { url: string } }
  | { type: 'video'; video: readonly ImageInput[] | Tensor };

/** Its text is untrusted: spellings of special tokens in it stay text. */
export interface Message {
  role: string;
  content: string | readonly ContentPart[];
}

export interface RequestOptions {
  /** Unique among the requests in flight; absent: one is made. */
  requestId?: string;
  /** Rejects with `signal.reason`. */
  signal?: AbortSignal;
  /** Lower runs first; default 0. */
  priority?: number;
  /** Prompts share cached prefixes only with prompts of the same salt. */
  cacheSalt?: string;
  /**
   * A stream that is being read makes no more tokens than this ahead of its reader: it gives its place in the cache to others
   * meanwhile and goes on when the reader does. Absent: it runs on.
   */
  maxUnreadTokens?: number;
}

export interface ChatOptions extends RequestOptions {
  /** A template's name in the checkpoint, or its text; absent: the engine's. */
  chatTemplate?: string;
  addGenerationPrompt?: boolean;
  tools?: readonly object[];
  templateVariables?: Record<string, unknown>;
  /** Override the engine's mmProcessorKwargs for this prompt. */
  mmProcessorKwargs?: Record<string, unknown>;
}

export interface TokenLogprob {
  /** The model's own, before penalties and temperature. */
  logprob: number;
  /** 1 is the likeliest. */
  rank: number;
  decodedToken: string;
}

export type FinishReason = 'stop' | 'length' | 'abort' | 'error';

export interface CompletionOutput {
  index: number;
  text: string;
  tokenIds: number[];
  cumulativeLogprob: number;
  /** Per token, by id: the token itself and the likeliest ones. */
  logprobs?: Map<number, TokenLogprob>[];
  finishReason: FinishReason | null;
  /** The stop string or stop token id that ended the text; null for the end-of-sequence token. */
  stopReason: string | number | null;
}

export interface RequestUsage {
  /** Placeholders included, expanded. */
  promptTokens: number;
  imageTokens: number;
  /** Prompt tokens whose keys and values were in the prefix cache. */
  cachedTokens: number;
  completionTokens: number;
}

/** Milliseconds since the epoch, and durations in milliseconds; undefined where it never came to it. */
export interface RequestMetrics {
  arrivalTime: number;
  /** When the prompt was tokenized, its pictures mapped, and the engine had it. */
  submittedTime?: number;
  firstScheduledTime?: number;
  firstTokenTime?: number;
  finishedTime?: number;
  /** From submission to the first step that ran some of it. */
  queueTime?: number;
}

export interface RequestOutput {
  requestId: string;
  prompt?: string;
  /** Expanded: one id per feature row of a picture. In streams the first item has them, later ones []. */
  promptTokenIds: number[];
  /** One entry per prompt token; the first is null, as nothing comes before it. */
  promptLogprobs?: (Map<number, TokenLogprob> | null)[];
  outputs: CompletionOutput[];
  finished: boolean;
  /** In results of batches: why this request failed. */
  error?: OcelliError;
  usage: RequestUsage;
  metrics: RequestMetrics;
}

/** Iterated once; leaving the loop aborts. `result` comes whether or not anybody iterates. */
export interface RequestStream extends AsyncIterableIterator<RequestOutput>, AsyncDisposable {
  readonly requestId: string;
  /** The text of output 0, piece by piece. */
  readonly textStream: AsyncIterable<string>;
  readonly result: Promise<RequestOutput>;
  /** Ends normally; the last item has finishReason 'abort'. */
  abort(): void;
}

export interface EmbedOptions extends RequestOptions {
  /** Which hidden rows, behind the last norm, make the vector. Default: what modules.json says, else 'last'. */
  pooling?: PoolingMode;
  /** To length 1. Default: what modules.json says, else true. */
  normalize?: boolean;
}

export interface EmbeddingOutput {
  embedding: Float32Array;
  promptTokenIds: number[];
}

export interface EngineStats {
  running: number;
  waiting: number;
  kvBlocksTotal: number;
  kvBlocksUsed: number;
  /** Prompt tokens looked up, and found, in the prefix cache. */
  prefixCacheQueries: number;
  prefixCacheHits: number;
  encoderCacheQueries: number;
  encoderCacheHits: number;
  encoderCacheBytes: number;
  encoderRuns: number;
  /** Guessed tokens (numSpeculativeTokens) that steps verified, and those that were right. */
  draftTokens: number;
  acceptedTokens: number;
  /** Pictures whose mapped tensors were asked for, and found, before they were decoded or resized again. */
  preprocessCacheQueries: number;
  preprocessCacheHits: number;
  preprocessCacheBytes: number;
  /** Picture files decoded in this process so far. */
  imageDecodes: number;
  preemptions: number;
  steps: number;
  promptTokens: number;
  generationTokens: number;
  /** Seconds spent in steps, of which in the model, of which in the scheduler. */
  stepSeconds: number;
  forwardSeconds: number;
  schedulerSeconds: number;
}
