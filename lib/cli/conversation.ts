/** `ocelli chat` without a question: a line at a time, on a terminal or from a pipe. */
import { createInterface } from 'node:readline';
import { decodeImage, type LLM, type Message, type SamplingOptions } from '../index';
import { answer, noteTiming } from './answer';
import { errorJson, errorLine, Failed, pressInterrupt, UsageError } from './outcome';
import { checkPicture, readPicture, userMessage } from './pictures';
import { faint, note, printJson } from './terminal';

export interface ConversationOptions {
  system: readonly Message[];
  /** Pictures of the first question. */
  pictures: readonly string[];
  sampling: SamplingOptions;
  json: boolean;
}

export async function converse(llm: LLM, options: ConversationOptions): Promise<void> {
  const terminal = process.stdin.isTTY === true && process.stderr.isTTY === true;
  const conversation = new Conversation(llm, options);
  // Prompts and echoes go to standard error: standard output holds the answers alone.
  const lines = createInterface({ input: process.stdin, output: terminal ? process.stderr : undefined, terminal });
  lines.setPrompt('> ');
  lines.on('SIGINT', () => {
    // In raw mode Ctrl-C is a key. A half-written line is dropped first, as shells do.
    if (conversation.answering || lines.line === '') return pressInterrupt();
    lines.write(null, { ctrl: true, name: 'e' });
    lines.write(null, { ctrl: true, name: 'u' });
  });
  if (terminal) {
    note(faint(`${llm.modelConfig.name}: ask, or /image PATH, /reset, /quit`));
    lines.prompt();
  }
  let failed = false;
  let asked = false;
  for await (const line of lines) {
    asked = true;
    try {
      if ((await conversation.take(line.trim())) === 'quit') break;
    } catch (e) {
      failed = true;
      note(errorLine(e));
      if (options.json) process.stdout.write(`${errorJson(e)}\n`);
    }
    if (terminal) lines.prompt();
  }
  lines.close();
  if (!asked && !terminal) throw new UsageError('Expected a question as the last argument or on standard input');
  // Someone at a terminal saw the error and went on; a script has only the exit code.
  if (failed && !terminal) throw new Failed();
}

class Conversation {
  answering = false;
  private messages: Message[];
  private pending: string[];
  private picturesSent = 0;

  constructor(
    private readonly llm: LLM,
    private readonly options: ConversationOptions,
  ) {
    this.messages = [...options.system];
    this.pending = [...options.pictures];
  }

  async take(line: string): Promise<'quit' | undefined> {
    const [, command, rest = ''] = /^(\/\w+)\s*(.*)$/.exec(line) ?? [];
    if (line === '') return undefined;
    if (command === '/quit' || command === '/exit') return 'quit';
    if (command === '/reset') this.reset();
    else if (command === '/image') await this.addPicture(plainPath(rest));
    else if (command !== undefined) note(`ocelli: Expected /image PATH, /reset or /quit but received ${command}.`);
    else await this.ask(line);
    return undefined;
  }

  private reset(): void {
    this.messages = [...this.options.system];
    this.pending = [];
    this.picturesSent = 0;
  }

  /** A picture beyond what one prompt takes begins a new conversation: most models know one picture at a time. */
  private async addPicture(name: string): Promise<void> {
    await checkPicture(name);
    await decodeImage(await readPicture(name));
    const { multimodalConfig } = this.llm.modelConfig;
    const limit = multimodalConfig?.limitPerPrompt.image ?? 1;
    if (this.picturesSent + this.pending.length + 1 > limit) {
      if (this.messages.length > this.options.system.length) note(faint('a new conversation, with this picture'));
      this.reset();
    }
    this.pending.push(name);
  }

  private async ask(question: string): Promise<void> {
    const { llm, options } = this;
    this.answering = true;
    try {
      const message = await userMessage(question, this.pending);
      const result = await answer(llm, [...this.messages, message], options.sampling, !options.json);
      this.messages.push(message, { role: 'assistant', content: result.text });
      this.picturesSent += this.pending.length;
      this.pending = [];
      if (options.json) printJson(result);
      else noteTiming(result);
    } catch (e) {
      // A picture that cannot be used would fail every further question.
      this.pending = [];
      throw e;
    } finally {
      this.answering = false;
    }
  }
}

/** As typed, or as a file manager drops it: quotes around, backslashes before blanks. */
function plainPath(text: string): string {
  const quoted = /^(['"])(.*)\1$/.exec(text);
  return quoted ? (quoted[2] as string) : text.replace(/\\(.)/g, process.platform === 'win32' ? '\\$1' : '$1');
}
