/** Chat templates: Jinja in a worker with a deadline, since templates come with checkpoints and can loop. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { OcelliError } from '../errors';

export interface TemplateMessage {
  role: string;
  content: unknown;
  [key: string]: unknown;
}

export interface ChatTemplateOptions {
  addGenerationPrompt?: boolean;
  tools?: readonly object[];
  /** A template's name in the file, or its text. */
  chatTemplate?: string;
  variables?: Readonly<Record<string, unknown>>;
}

const deadline = 250;
const startDeadline = 20_000;

interface Job {
  message: { id: number; template: string; context: string };
  resolve: (text: string) => void;
  reject: (error: unknown) => void;
}

type Reply = { started: true } | { id: number; text?: string; error?: string };

/** Variables that the template sets itself; a request's must not replace them. */
const fixed = new Set([
  'messages',
  'tools',
  'add_generation_prompt',
  'bos_token',
  'eos_token',
  '__proto__',
  'constructor',
  'prototype',
]);

export function renderTemplate(
  template: string,
  messages: readonly TemplateMessage[],
  tokens: Readonly<Record<string, unknown>>,
  { addGenerationPrompt = true, tools, variables = {} }: ChatTemplateOptions,
): Promise<string> {
  const own = Object.fromEntries(Object.entries(variables).filter(([name]) => !fixed.has(name)));
  const context = {
    ...tokens,
    ...own,
    messages,
    add_generation_prompt: addGenerationPrompt,
    ...(tools ? { tools } : {}),
  };
  return TemplateWorker.shared().render(template, JSON.stringify(context));
}

/** One worker, started with the first template and kept; it never keeps the process alive on its own. */
class TemplateWorker {
  private static instance: TemplateWorker | undefined;
  private worker: Worker | undefined;
  private ready = false;
  private timer: NodeJS.Timeout | undefined;
  private readonly queue: Job[] = [];
  private next = 0;

  static shared(): TemplateWorker {
    return (TemplateWorker.instance ??= new TemplateWorker());
  }

  render(template: string, context: string): Promise<string> {
    return new Promise((resolve, reject) => {
      this.queue.push({ message: { id: this.next++, template, context }, resolve, reject });
      if (this.queue.length === 1) this.start();
    });
  }

  /** Sends the first job; one at a time, so that a deadline is one template's. */
  private start(): void {
    const job = this.queue[0];
    if (!job) {
      this.worker?.unref();
      return;
    }
    const worker = (this.worker ??= this.spawn());
    worker.ref();
    this.arm(this.ready ? deadline : startDeadline);
    if (this.ready) worker.postMessage(job.message);
  }

  private arm(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.drop();
      this.settle((job) =>
        job.reject(
          new OcelliError(
            'ERR_CHAT_TEMPLATE',
            `Expected the chat template to render within ${deadline} ms but it did not end`,
          ),
        ),
      );
    }, ms);
  }

  private spawn(): Worker {
    const worker = new Worker(join(__dirname, 'template-worker.js'), {
      resourceLimits: { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 32 },
      execArgv: [],
      env: {},
      stdin: false,
    });
    worker.on('message', (reply: Reply) => {
      if ('started' in reply) {
        this.ready = true;
        const job = this.queue[0];
        if (!job) return;
        this.arm(deadline);
        worker.postMessage(job.message);
        return;
      }
      this.settle((job) => {
        if (reply.error === undefined) job.resolve(reply.text ?? '');
        else job.reject(new OcelliError('ERR_CHAT_TEMPLATE', `The chat template failed: ${reply.error}`));
      });
    });
    worker.on('error', (cause) => {
      if (this.worker !== worker) return;
      this.drop();
      this.settle((job) =>
        job.reject(new OcelliError('ERR_CHAT_TEMPLATE', `The chat template failed: ${cause.message}`, { cause })),
      );
    });
    return worker;
  }

  private drop(): void {
    void this.worker?.terminate();
    this.worker = undefined;
    this.ready = false;
  }

  private settle(finish: (job: Job) => void): void {
    clearTimeout(this.timer);
    const job = this.queue.shift();
    if (job) finish(job);
    this.start();
  }
}
