/** A request from the call to its end: what was said of it so far, and who waits to hear more. */
import { OcelliError } from '../errors';
import type { Tokenizer } from '../tokenizer';
import { Completion, logprobMap, type SampledToken } from './completion';
import { publish } from './diagnostics';
import type { BuiltRequest } from './submission';
import type { RequestMetrics, RequestOutput, RequestStream, TokenLogprob } from './types';

/** What a request asks of the engine that runs it. */
export interface Cancels {
  /** Aborts the whole request, or one output. */
  cancel(request: Request, output?: number): void;
  /** No more tokens until it is let go. */
  hold(request: Request, held: boolean): void;
}

export class Request implements RequestStream {
  readonly result: Promise<RequestOutput>;
  readonly metrics: RequestMetrics = { arrivalTime: Date.now() };
  /** Undefined while the prompt is being prepared. */
  built?: BuiltRequest;
  /** Of a request for an embedding: its hidden rows made one, in double. */
  pooled?: Float64Array;
  /** The engine's number, once submitted. */
  id = -1;
  private completions: Completion[] = [];
  private promptLogprobs?: (Map<number, TokenLogprob> | null)[];
  private cachedTokens = 0;
  private error: unknown;
  private failed = false;
  private ended = false;
  private dirty = false;
  private first = true;
  private lastDelivered = false;
  private used = false;
  /** Tokens since the last item, once somebody reads. */
  private unread = 0;
  private held = false;
  private readonly waiting: (() => void)[] = [];
  private resolve!: (output: RequestOutput) => void;
  private reject!: (reason: unknown) => void;
  private stopListening: () => void = () => {};

  constructor(
    readonly requestId: string,
    private readonly engine: Cancels,
    private readonly tokenizer: Tokenizer | undefined,
    signal?: AbortSignal,
    private readonly maxUnreadTokens = Infinity,
  ) {
    this.result = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // Whoever does not read the result is not to lose the process over it.
    this.result.catch(() => {});
    if (!signal) return;
    const onAbort = (): void => this.fail(signal.reason);
    if (signal.aborted) onAbort();
    else {
      signal.addEventListener('abort', onAbort, { once: true });
      this.stopListening = () => signal.removeEventListener('abort', onAbort);
    }
  }

  get finished(): boolean {
    return this.ended;
  }

  // --- what the engine says ---

  submitted(id: number, built: BuiltRequest): void {
    this.id = id;
    this.built = built;
    this.metrics.submittedTime = Date.now();
    const { sampling, promptTokenIds, imageTokens } = built;
    publish('request:submit', () => ({
      requestId: this.requestId,
      promptTokens: promptTokenIds.length,
      imageTokens,
    }));
    this.completions = Array.from({ length: sampling.n }, (_, i) => new Completion(i, sampling, this.tokenizer));
    if (sampling.promptLogprobs !== undefined) this.promptLogprobs = [null];
  }

  scheduled(cachedTokens: number): void {
    if (this.metrics.firstScheduledTime !== undefined) return;
    this.metrics.firstScheduledTime = Date.now();
    this.metrics.queueTime = this.metrics.firstScheduledTime - this.metrics.submittedTime!;
    this.cachedTokens = cachedTokens;
  }

  token(index: number, sampled: SampledToken, ends: boolean): void {
    const completion = this.completions[index];
    if (this.ended || !completion || completion.finished) return;
    this.metrics.firstTokenTime ??= Date.now();
    completion.accept(sampled, ends);
    this.dirty = true;
    // Whoever only awaits the result reads nothing, and is not waited for.
    if (this.used && ++this.unread >= this.maxUnreadTokens) this.hold(true);
    // A stop string in the text: the engine knows nothing of texts and is told.
    if (!completion.finished) return;
    if (this.completions.every((c) => c.finished)) this.engine.cancel(this);
    else this.engine.cancel(this, index);
    this.endIfAllFinished();
  }

  promptToken(position: number, sampled: SampledToken): void {
    if (this.promptLogprobs) this.promptLogprobs[position] = logprobMap(sampled, this.tokenizer);
  }

  outputFinished(index: number, reason: 'stop' | 'length' | 'abort', stopReason: number | null): void {
    if (this.ended) return;
    this.completions[index]?.finish(reason, stopReason);
    this.dirty = true;
    this.endIfAllFinished();
  }

  fail(error: unknown): void {
    if (this.ended) return;
    this.failed = true;
    this.error = error;
    for (const c of this.completions) c.finish('error');
    this.end();
    this.engine.cancel(this);
  }

  /** The event's records are in: whoever waits for more may look. */
  wake(): void {
    if (!this.dirty && !this.ended) return;
    for (const look of this.waiting.splice(0)) look();
  }

  private hold(held: boolean): void {
    if (this.held === held || this.ended) return;
    this.held = held;
    this.engine.hold(this, held);
  }

  private endIfAllFinished(): void {
    if (this.completions.every((c) => c.finished)) this.end();
  }

  private end(): void {
    this.ended = true;
    this.metrics.finishedTime = Date.now();
    this.stopListening();
    publish('request:end', () => {
      const { usage, metrics, outputs, error } = this.output();
      const finishReasons = outputs.map((o) => o.finishReason);
      return { requestId: this.requestId, usage, metrics, finishReasons, ...(error ? { error } : {}) };
    });
    if (this.failed) this.reject(this.error);
    else this.resolve(this.output());
    this.wake();
  }

  // --- what the caller does ---

  abort(): void {
    if (this.ended) return;
    // Nothing was submitted yet: its outputs are as empty as they will be.
    if (this.completions.length === 0) this.completions = [new Completion(0, emptySampling, undefined)];
    for (const c of this.completions) c.finish('abort');
    this.dirty = true;
    this.end();
    this.engine.cancel(this);
  }

  async next(): Promise<IteratorResult<RequestOutput, undefined>> {
    while (!this.dirty && !this.ended) await new Promise<void>((look) => this.waiting.push(look));
    if (this.failed && !this.lastDelivered) {
      this.lastDelivered = true;
      throw this.error;
    }
    if (this.lastDelivered) return { done: true, value: undefined };
    this.dirty = false;
    this.unread = 0;
    this.hold(false);
    this.lastDelivered = this.ended;
    const value = this.output(true);
    this.first = false;
    return { done: false, value };
  }

  async return(): Promise<IteratorResult<RequestOutput, undefined>> {
    this.abort();
    this.lastDelivered = true;
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    if (this.used) {
      throw new OcelliError('ERR_STREAM_USED', 'Expected a stream to be iterated once but it was iterated before', {
        hint: 'Keep the items, or await `result`, which has all of them.',
        requestId: this.requestId,
      });
    }
    this.used = true;
    return this;
  }

  get textStream(): AsyncIterable<string> {
    return textOf(this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  /** All of it, or what is new since the last item. */
  output(delta = false): RequestOutput {
    const { built } = this;
    const promptTokenIds = built?.promptTokenIds ?? [];
    return {
      requestId: this.requestId,
      ...(built?.prompt !== undefined && (!delta || this.first) ? { prompt: built.prompt } : {}),
      promptTokenIds: delta && !this.first ? [] : [...promptTokenIds],
      ...(this.promptLogprobs && (!delta || this.ended) ? { promptLogprobs: [...this.promptLogprobs] } : {}),
      outputs: this.completions.map((c) => (delta ? c.takeDelta() : c.whole())),
      finished: this.ended,
      ...(this.failed && OcelliError.is(this.error) ? { error: this.error } : {}),
      usage: {
        promptTokens: promptTokenIds.length,
        imageTokens: built?.imageTokens ?? 0,
        cachedTokens: this.cachedTokens,
        completionTokens: this.completions.reduce((sum, c) => sum + c.tokenIds.length, 0),
      },
      metrics: { ...this.metrics },
    };
  }
}

async function* textOf(request: Request): AsyncGenerator<string> {
  for await (const item of request) {
    const text = item.outputs[0]?.text;
    if (text) yield text;
  }
}

const emptySampling = { n: 1, stop: [], minTokens: 0, detokenize: false } as never;
