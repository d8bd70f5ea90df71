/** The engine as programs use it. */
import type { ModelConfig } from '../config/model-config';
import type { EngineOptions, LoadOptions } from '../config/options';
import { checkOptions, type Check } from '../config/options';
import type { PoolingMode } from '../config/pooling';
import { OcelliError } from '../errors';
import { decodeCounts, PictureHolds } from '../media/decode-cache';
import { nativeError } from '../native';
import type { Tokenizer } from '../tokenizer';
import { EngineClient, disposedError, withIndex } from './client';
import { publish } from './diagnostics';
import { embedChecks, embeddingOf, resolvePooling } from './embedding';
import { ItemMapper } from './items';
import { featureRowsOf, loadModel, type LoadedModel } from './loaded-model';
import { engineConfig, type MemoryPlan } from './memory-plan';
import { tokenizeMessages, tokenizePrompt, type TokenizedPrompt } from './prompt';
import { Request } from './request';
import { resolveSampling, type ResolvedSampling, type SamplingOptions } from './sampling-params';
import { Submission } from './submission';
import type {
  ChatOptions,
  EmbedOptions,
  EmbeddingOutput,
  EngineStats,
  Message,
  Prompt,
  RequestOptions,
  RequestOutput,
  RequestStream,
} from './types';

const defaultMaxTokens = 16;

const requestChecks: Record<keyof RequestOptions, Check> = {
  requestId: {
    expected: 'a string of 1 to 256 characters',
    test: (v) => typeof v === 'string' && v !== '' && v.length <= 256,
  },
  signal: {
    expected: 'an AbortSignal',
    test: (v) => typeof v === 'object' && v !== null && typeof (v as AbortSignal).aborted === 'boolean',
  },
  priority: {
    expected: 'an integer of 32 bits',
    test: (v) => Number.isSafeInteger(v) && (v as number) === ((v as number) | 0),
  },
  maxUnreadTokens: {
    expected: 'an integer of at least 1',
    test: (v) => Number.isSafeInteger(v) && (v as number) >= 1,
  },
  cacheSalt: { expected: 'a non-empty string', test: (v) => typeof v === 'string' && v !== '' },
};

const plainObject: Check = {
  expected: 'an object',
  test: (v) => typeof v === 'object' && v !== null && !Array.isArray(v),
};

const chatChecks: Record<keyof ChatOptions, Check> = {
  ...requestChecks,
  chatTemplate: { expected: 'a string', test: (v) => typeof v === 'string' },
  addGenerationPrompt: { expected: 'true or false', test: (v) => typeof v === 'boolean' },
  tools: { expected: 'a list of objects', test: (v) => Array.isArray(v) },
  templateVariables: plainObject,
  mmProcessorKwargs: plainObject,
};

/**
 * A model and the engine that runs it, in this process. Requests are batched with whatever else is in flight; their results do not
 * depend on it. The event loop is never held: computing happens on the engine's own threads.
 */
export class LLM implements AsyncDisposable {
  readonly modelConfig: ModelConfig;
  readonly memoryPlan: MemoryPlan;
  private readonly model: LoadedModel;
  private readonly client: EngineClient;
  private readonly items: ItemMapper;
  private readonly submission: Submission;
  private requests = 0;

  private constructor(model: LoadedModel) {
    const { native, config, traced, plan, handle, tokenizer } = model;
    this.model = model;
    this.modelConfig = config;
    this.memoryPlan = Object.freeze(plan);
    this.items = new ItemMapper(config, traced, featureRowsOf(native, handle, traced));
    this.submission = new Submission({ config, traced, tokenizer, items: this.items });
    // Held weakly: an engine that nobody can reach any more is collected, and its memory with it.
    let client: WeakRef<EngineClient> | undefined = undefined as WeakRef<EngineClient> | undefined;
    const engine = native.createEngine(handle, engineConfig(config, traced, plan), (event) =>
      client?.deref()?.onEvent(event),
    );
    this.client = new EngineClient(native, engine, config.options.maxNumQueuedTokens);
    client = new WeakRef(this.client);
  }

  /**
   * Loads a model: 'demo', a folder with config.json and safetensors files, a GGUF file, a file URL, or owner/name of the local hub cache.
   * `signal` rejects with its reason.
   */
  static async load(model: string | URL, options: EngineOptions & LoadOptions = {}): Promise<LLM> {
    const loaded = await loadModel(model, options);
    try {
      const llm = new LLM(loaded);
      publish('engine:load', () => ({ model: loaded.config.name, memoryPlan: llm.memoryPlan, device: loaded.device }));
      return llm;
    } catch (e) {
      throw nativeError(e);
    }
  }

  get tokenizer(): Tokenizer {
    const { tokenizer } = this.model;
    if (tokenizer) return tokenizer;
    throw new OcelliError('ERR_NO_TOKENIZER', 'Expected a tokenizer but the engine was loaded with skipTokenizerInit');
  }

  generate(prompt: Prompt, params?: SamplingOptions, request?: RequestOptions): Promise<RequestOutput>;
  generate(
    prompts: readonly Exclude<Prompt, readonly number[]>[],
    params?: SamplingOptions | readonly SamplingOptions[],
    request?: RequestOptions,
  ): Promise<RequestOutput[]>;
  async generate(
    prompt: Prompt | readonly Exclude<Prompt, readonly number[]>[],
    params?: SamplingOptions | readonly SamplingOptions[],
    request: RequestOptions = {},
  ): Promise<RequestOutput | RequestOutput[]> {
    if (isBatch(prompt)) return this.generateBatch(prompt, params, request);
    return this.stream(prompt, params as SamplingOptions | undefined, request).result;
  }

  /** Work starts at the call, whether or not anybody iterates. */
  stream(prompt: Prompt, params?: SamplingOptions, request: RequestOptions = {}): RequestStream {
    return this.start(
      params,
      request,
      requestChecks,
      async () => tokenizePrompt(this.model.tokenizer, prompt),
      defaultMaxTokens,
    );
  }

  /** Renders messages by the checkpoint's chat template; their text is untrusted. */
  async chat(
    messages: readonly Message[],
    params?: SamplingOptions,
    request: ChatOptions = {},
  ): Promise<RequestOutput> {
    return this.chatStream(messages, params, request).result;
  }

  chatStream(messages: readonly Message[], params?: SamplingOptions, request: ChatOptions = {}): RequestStream {
    return this.start(params, request, chatChecks, () => this.render(messages, request), undefined);
  }

  /** One vector for each prompt, pictures included: its hidden rows behind the last norm, pooled. Any text model gives them. */
  async embed(prompts: Prompt | readonly Prompt[], options: EmbedOptions = {}): Promise<EmbeddingOutput[]> {
    const {
      pooling: _pooling,
      normalize: _normalize,
      ...request
    } = checkOptions(options, { ...requestChecks, ...embedChecks }, 'embed options');
    const list = isBatch(prompts) ? prompts : [prompts as Prompt];
    const { pooling, normalize } = await resolvePooling(options, this.modelConfig.source);
    const requests = await this.submitAll(list, () => ({ maxTokens: 1 }), request, pooling);
    try {
      const outputs = await Promise.all(requests.map((r) => r.result));
      return outputs.map(({ promptTokenIds }, i) => {
        const embedding = requests[i]!.pooled;
        // Ended by dispose(): there is nothing to give back.
        if (!embedding) throw disposedError();
        return { embedding: embeddingOf(embedding, normalize), promptTokenIds };
      });
    } catch (e) {
      for (const r of requests) r.abort();
      throw e;
    }
  }

  /** Tokens that a prompt will have; pictures are looked at, nothing is computed. */
  async countTokens(prompt: Prompt | readonly Message[]): Promise<{ total: number; text: number; image: number }> {
    const tokenized = isMessages(prompt)
      ? await this.render(prompt, {})
      : tokenizePrompt(this.model.tokenizer, prompt as Prompt);
    const holds = new PictureHolds();
    const { inputs, placeholders } = await this.submission.expand(tokenized, holds).finally(() => holds.letGo());
    const total = inputs.promptTokenIds.length;
    const items = Object.values(placeholders).reduce((a, b) => a + b, 0);
    return { total, text: total - items, image: placeholders.image ?? 0 };
  }

  stats(): EngineStats {
    if (this.client.disposed) throw disposedError();
    return {
      ...this.client.stats(),
      preprocessCacheQueries: this.items.queries,
      preprocessCacheHits: this.items.hits,
      preprocessCacheBytes: this.items.bytes,
      imageDecodes: decodeCounts.decodes,
    };
  }

  /** Aborts what is in flight, waits for it, and gives the memory back. */
  async dispose(): Promise<void> {
    await this.client.dispose();
    this.model.native.disposeModel(this.model.handle);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  private render(messages: readonly Message[], { chatTemplate, ...options }: ChatOptions): Promise<TokenizedPrompt> {
    const { tokenizer, traced, config } = this.model;
    const template = chatTemplate ?? config.options.chatTemplate;
    const placeholders = Object.fromEntries(
      Object.entries(traced.placeholderTokenIds).map(([modality, id]) => [modality, tokenizer?.idToToken(id) ?? '']),
    );
    return tokenizeMessages(
      tokenizer,
      messages,
      { ...options, ...(template === undefined ? {} : { chatTemplate: template }) },
      placeholders,
      // Of checkpoints with pictures, also where one runs for text alone.
      config.preprocessorConfig !== undefined || config.processorConfig !== undefined,
    );
  }

  /** A request begins at once; its prompt is prepared and handed over behind it. */
  private start(
    params: SamplingOptions | undefined,
    options: RequestOptions,
    checks: Record<string, Check>,
    tokenize: () => Promise<TokenizedPrompt>,
    maxTokens: number | undefined,
  ): RequestStream {
    const { request, sampling } = this.begin(params, options, checks, maxTokens);
    const run = async (): Promise<void> => {
      if (request.finished) return;
      const built = await this.submission.build(await tokenize(), sampling, options);
      this.client.submit([{ request, built }]);
    };
    run().catch((e: unknown) => request.fail(e));
    return request;
  }

  /** What is wrong with the call itself is thrown by it. */
  private begin(
    params: SamplingOptions | undefined,
    options: RequestOptions,
    checks: Record<string, Check>,
    maxTokens: number | undefined,
    pooling?: PoolingMode,
  ): { request: Request; sampling: ResolvedSampling } {
    if (this.client.disposed) throw disposedError();
    if (!pooling && this.model.traced.text.outputs.logits === undefined) {
      throw new OcelliError(
        'ERR_NO_LOGITS',
        `Expected a model that predicts tokens but ${this.modelConfig.architecture} has no head`,
        { hint: 'Use embed(), or load a checkpoint of a model for causal language modelling.' },
      );
    }
    const {
      requestId = `request-${++this.requests}`,
      signal,
      maxUnreadTokens,
    } = checkOptions(options, checks, 'request options');
    const defaults = this.modelConfig.generationConfig.sampling;
    const sampling = resolveSampling(params, defaults);
    sampling.maxTokens ??= maxTokens;
    const request = new Request(requestId, this.client, this.model.tokenizer, signal, maxUnreadTokens);
    this.client.begin(request);
    return { request, sampling };
  }

  private async generateBatch(
    prompts: readonly Exclude<Prompt, readonly number[]>[],
    params: SamplingOptions | readonly SamplingOptions[] | undefined,
    options: RequestOptions,
  ): Promise<RequestOutput[]> {
    if (Array.isArray(params) && params.length !== prompts.length) {
      throw new OcelliError(
        'ERR_SAMPLING',
        `Expected as many sampling parameters as prompts (${prompts.length}) but received ${params.length}`,
      );
    }
    const each = (i: number): SamplingOptions | undefined =>
      (Array.isArray(params) ? params[i] : params) as SamplingOptions | undefined;
    const requests = await this.submitAll(prompts, each, options);
    return Promise.all(
      requests.map((request) =>
        request.result.catch((e: unknown) => {
          // An abort by signal is the caller's own; any other failure is this prompt's alone.
          options.signal?.throwIfAborted();
          if (!OcelliError.is(e)) throw e;
          return request.output();
        }),
      ),
    );
  }

  /** All or none: what is wrong with one prompt is found before any is handed over, and rejects with its index. */
  private async submitAll(
    prompts: readonly Prompt[],
    params: (index: number) => SamplingOptions | undefined,
    options: RequestOptions,
    pooling?: PoolingMode,
  ): Promise<Request[]> {
    const { requestId } = options;
    const begun: { request: Request; sampling: ResolvedSampling }[] = [];
    try {
      for (const i of prompts.keys()) {
        const own = { ...options, ...(requestId === undefined ? {} : { requestId: `${requestId}-${i}` }) };
        begun.push(indexed(i, () => this.begin(params(i), own, requestChecks, defaultMaxTokens, pooling)));
      }
      const built = await Promise.all(
        prompts.map(async (prompt, i) => {
          try {
            const tokenized = tokenizePrompt(this.model.tokenizer, prompt);
            const { request, sampling } = begun[i]!;
            return { request, built: await this.submission.build(tokenized, sampling, options, pooling) };
          } catch (e) {
            throw withIndex(e, i);
          }
        }),
      );
      options.signal?.throwIfAborted();
      this.client.submit(built);
    } catch (e) {
      for (const { request } of begun) request.abort();
      throw e;
    }
    return begun.map(({ request }) => request);
  }
}

function indexed<T>(index: number, body: () => T): T {
  try {
    return body();
  } catch (e) {
    throw withIndex(e, index);
  }
}

/** One prompt of token ids is a list of numbers; an empty list has no prompt at all. */
function isBatch(prompt: unknown): prompt is readonly Exclude<Prompt, readonly number[]>[] {
  if (!Array.isArray(prompt)) return false;
  if (prompt.length === 0)
    throw new OcelliError(
      'ERR_PROMPT_EMPTY',
      'Expected at least one prompt, or one token id, but received an empty list',
    );
  return typeof prompt[0] !== 'number';
}

function isMessages(prompt: unknown): prompt is readonly Message[] {
  return Array.isArray(prompt) && typeof (prompt[0] as { role?: unknown } | undefined)?.role === 'string';
}
