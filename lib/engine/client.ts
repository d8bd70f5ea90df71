/** The native engine and the requests in flight: numbers them, hands them over, and tells each what the engine says of it. */
import { OcelliError } from '../errors';
import {
  nativeError,
  type EngineEvent,
  type EngineHandle,
  type NativeBinding,
  type NativeEngineStats,
} from '../native';
import type { SampledToken } from './completion';
import { publish } from './diagnostics';
import type { Request } from './request';
import type { BuiltRequest } from './submission';

/** Kinds of records in an event (lib/native.ts, EngineEvent). */
const kind = {
  token: 0,
  stop: 1,
  length: 2,
  aborted: 3,
  failed: 4,
  promptLogprob: 5,
  scheduled: 6,
  pooled: 7,
} as const;
const header = 7;

/** Clients with requests in flight: nothing but the event loop may hold them. */
const busy = new Set<EngineClient>();

export class EngineClient {
  private readonly requests = new Map<number, Request>();
  private readonly names = new Set<string>();
  private inFlight = 0;
  private queuedTokens = 0;
  private next = 1;
  private disposal?: Promise<void>;

  constructor(
    private readonly native: NativeBinding,
    private readonly engine: EngineHandle,
    private readonly maxQueuedTokens: number | undefined,
  ) {}

  get disposed(): boolean {
    return this.disposal !== undefined;
  }

  stats(): NativeEngineStats {
    return this.native.engineStats(this.engine);
  }

  /** A request begins, before its prompt is prepared: the process stays alive until it ends. */
  begin(request: Request): void {
    if (this.disposed) throw disposedError();
    if (this.names.has(request.requestId)) {
      throw new OcelliError(
        'ERR_REQUEST_ID',
        `Expected a requestId of its own but '${request.requestId}' is in flight`,
        { requestId: request.requestId },
      );
    }
    this.names.add(request.requestId);
    publish('request:start', () => ({ requestId: request.requestId }));
    if (this.inFlight++ === 0) {
      busy.add(this);
      this.native.engineRef(this.engine, true);
    }
    const end = (): void => {
      this.names.delete(request.requestId);
      this.live.delete(request);
      this.forget(request);
      if (--this.inFlight > 0) return;
      busy.delete(this);
      if (!this.disposed) this.native.engineRef(this.engine, false);
    };
    this.live.add(request);
    request.result.then(end, end);
  }

  private readonly live = new Set<Request>();

  /** All or none; an error of one has `details.index`. */
  submit(requests: readonly { request: Request; built: BuiltRequest }[]): void {
    if (this.disposed) throw disposedError();
    const list = requests.filter(({ request }) => !request.finished);
    const tokens = list.reduce((sum, { built }) => sum + built.promptTokenIds.length, 0);
    if (this.maxQueuedTokens !== undefined && this.queuedTokens + tokens > this.maxQueuedTokens) {
      throw new OcelliError(
        'ERR_QUEUE_FULL',
        `Expected at most ${this.maxQueuedTokens} queued prompt tokens but ${this.queuedTokens} wait already and ${tokens} came`,
        { hint: 'Send it later, or raise maxNumQueuedTokens.' },
      );
    }
    const ids = list.map(() => this.next++);
    try {
      this.native.engineSubmit(
        this.engine,
        list.map(({ built }, i) => ({ ...built.native, id: ids[i]! })),
      );
    } catch (e) {
      const { index } = e as { index?: number };
      throw withIndex(nativeError(e), requests.length > 1 ? index : undefined);
    }
    list.forEach(({ request, built }, i) => {
      request.submitted(ids[i]!, built);
      this.requests.set(ids[i]!, request);
      this.queuedTokens += built.promptTokenIds.length;
    });
  }

  cancel(request: Request, output?: number): void {
    if (request.id < 0 || this.disposed) return;
    this.native.engineAbort(this.engine, request.id, output);
    if (output === undefined) this.forget(request);
  }

  hold(request: Request, held: boolean): void {
    if (request.id >= 0 && !this.disposed) this.native.engineHold(this.engine, request.id, held);
  }

  /** What the engine says of it from now on is not heard any more. */
  private forget(request: Request): void {
    if (!this.requests.delete(request.id)) return;
    if (request.metrics.firstScheduledTime === undefined) this.queuedTokens -= request.built!.promptTokenIds.length;
  }

  /** Called by the engine, once per step at most. Whatever goes wrong with one request stays with it. */
  onEvent({ data, errors }: EngineEvent): void {
    const touched = new Set<Request>();
    for (let at = 0; at < data.length;) {
      const size = header + 1 + 3 * data[at + 6]!;
      const request = this.requests.get(data[at]!);
      if (request) {
        touched.add(request);
        try {
          this.record(request, data, at, size, errors);
        } catch (e) {
          request.fail(e);
        }
      }
      at += size;
    }
    for (const request of touched) request.wake();
  }

  private record(request: Request, data: Float64Array, at: number, size: number, errors: EngineEvent['errors']): void {
    const index = data[at + 1]!;
    const extra = data[at + size - 1]!;
    switch (data[at + 2]) {
      case kind.token:
        request.token(index, sampledAt(data, at, data[at + 3]!), endsWith(data, at, size));
        break;
      case kind.stop:
        request.outputFinished(index, 'stop', data[at + 3]! < 0 ? null : data[at + 3]!);
        break;
      case kind.length:
        request.outputFinished(index, 'length', null);
        break;
      case kind.aborted:
        request.outputFinished(index, 'abort', null);
        break;
      case kind.failed:
        request.fail(nativeError(errors[extra], request.requestId));
        break;
      case kind.promptLogprob:
        request.promptToken(data[at + 3]!, sampledAt(data, at, extra));
        break;
      case kind.scheduled:
        if (request.metrics.firstScheduledTime === undefined) this.queuedTokens -= request.built!.promptTokenIds.length;
        request.scheduled(extra);
        break;
      case kind.pooled:
        request.pooled = data.slice(at + header, at + header + extra);
        break;
    }
  }

  /** Aborts what is in flight and waits for the engine's thread to end. */
  dispose(): Promise<void> {
    this.disposal ??= (async () => {
      for (const request of [...this.live]) request.abort();
      await this.native.engineDispose(this.engine);
    })();
    return this.disposal;
  }
}

function sampledAt(data: Float64Array, at: number, token: number): SampledToken {
  const top = Array.from({ length: data[at + 6]! }, (_, i) => {
    const entry = at + header + 3 * i;
    return { token: data[entry]!, logprob: data[entry + 1]!, rank: data[entry + 2]! };
  });
  return { token, logprob: data[at + 4]!, rank: data[at + 5]!, top };
}

/** Whether the next record says that this token ended its output: the two come together. */
function endsWith(data: Float64Array, at: number, size: number): boolean {
  const next = at + size;
  return data[next] === data[at] && data[next + 1] === data[at + 1] && data[next + 2] === kind.stop;
}

export function disposedError(): OcelliError {
  return new OcelliError('ERR_DISPOSED', 'Expected a running engine but it was disposed', {
    hint: 'Load it again with LLM.load().',
  });
}

/** The error with the place of its prompt in the list. */
export function withIndex(e: unknown, index: number | undefined): unknown {
  if (index === undefined || !OcelliError.is(e)) return e;
  return new OcelliError(e.code, e.message, {
    ...(e.hint === undefined ? {} : { hint: e.hint }),
    ...(e.requestId === undefined ? {} : { requestId: e.requestId }),
    details: { ...e.details, index },
    cause: e.cause,
  });
}
