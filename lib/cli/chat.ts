/** `ocelli chat`: one question about pictures, or a conversation. */
import type { Command } from 'commander';
import type { Message, SamplingOptions } from '../index';
import { answer, noteTiming } from './answer';
import { converse } from './conversation';
import { addEngineFlags, addSamplingFlags, engineOptionsOf, list, samplingOptionsOf } from './flags';
import { addModelFlags, loadEngine, type ModelFlags } from './load';
import { Interrupted } from './outcome';
import { sortArguments, userMessage } from './pictures';
import { printJson } from './terminal';

interface ChatFlags extends ModelFlags {
  image: string[];
  system?: string;
  json?: boolean;
}

export function addChatCommand(program: Command): void {
  const command = program
    .command('chat')
    .description('asks a model about pictures; without a question a conversation')
    .usage('[IMAGE...] [QUESTION] [options]')
    .argument('[arguments...]', 'paths or URLs of pictures, then the question in quotes')
    .option('-i, --image <FILE>', 'a picture, whatever its name looks like; repeatable', list, [])
    .option('--system <TEXT>', 'a system message')
    .option('--json', 'print { text, tokenIds, finishReason, usage, timing }; in a conversation one line per answer');
  addModelFlags(command);
  addSamplingFlags(command);
  addEngineFlags(command);
  command
    .addHelpText(
      'after',
      `
Examples:
  ocelli chat photo.jpg "What is in the picture?"
  ocelli chat before.png after.png "What changed?" --limit-mm-per-prompt image=2
  echo "How many objects are there?" | ocelli chat scene.png
In a conversation: /image PATH adds a picture, /reset starts again, /quit or Ctrl-D ends.`,
    )
    .action(chat);
}

async function chat(args: string[], flags: ChatFlags): Promise<void> {
  const { pictures, question } = await sortArguments(args, flags.image);
  const options = engineOptionsOf(flags as never);
  // Pictures on the command line are wanted in one prompt: the engine is planned for them.
  if (pictures.length > 1) options.limitMmPerPrompt ??= { image: pictures.length };
  const llm = await loadEngine(flags, options);
  try {
    const sampling = samplingDefaults(samplingOptionsOf(flags as never), llm.modelConfig.generationConfig.sampling);
    const system: Message[] = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
    if (question === undefined) {
      await converse(llm, { system, pictures, sampling, json: flags.json === true });
      return;
    }
    const messages = [...system, await userMessage(question, pictures)];
    const result = await answer(llm, messages, sampling, !flags.json);
    if (flags.json) printJson(result);
    else noteTiming(result);
    if (result.finishReason === 'abort') throw new Interrupted();
  } finally {
    await llm.dispose();
  }
}

/** Without a temperature of the caller's or the model's own the likeliest tokens are taken: the same question, the same answer. */
export function samplingDefaults(given: SamplingOptions, ofModel: SamplingOptions): SamplingOptions {
  return given.temperature === undefined && ofModel.temperature === undefined ? { ...given, temperature: 0 } : given;
}
