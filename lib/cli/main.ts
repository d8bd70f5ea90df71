#!/usr/bin/env node
/** The command line: one file per command; outcome.ts says how they end. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { addBenchCommand } from './bench';
import { addBuildCommand } from './build';
import { addChatCommand } from './chat';
import { addDoctorCommand } from './doctor';
import { addInspectCommand } from './inspect';
import { errorJson, errorLine, exitCodeOf, exitCodes, Failed, handleInterrupts, Interrupted } from './outcome';
import { note } from './terminal';

const { version } = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')) as { version: string };

async function main(argv: readonly string[]): Promise<number> {
  const program = new Command('ocelli')
    .description('asks vision-language models about pictures, on this machine')
    .version(version)
    .exitOverride()
    .showHelpAfterError('Add --help for what is possible.')
    .configureHelp({ showGlobalOptions: true });
  addChatCommand(program);
  addInspectCommand(program);
  addDoctorCommand(program);
  addBenchCommand(program);
  addBuildCommand(program);

  let json = false;
  program.hook('preAction', (_, command) => {
    json = command.opts<{ json?: boolean }>().json === true;
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
    return exitCodes.done;
  } catch (e) {
    // Help and version end this way too, with 0.
    if (e instanceof CommanderError) return e.exitCode === 0 ? exitCodes.done : exitCodes.usage;
    if (e instanceof Failed || e instanceof Interrupted) return exitCodeOf(e);
    if (json) process.stdout.write(`${errorJson(e)}\n`);
    note(errorLine(e));
    return exitCodeOf(e);
  }
}

// `ocelli ... | head`: the reader has enough.
process.stdout.on('error', (e: NodeJS.ErrnoException) => {
  if (e.code === 'EPIPE') process.exit(exitCodes.done);
  throw e;
});
handleInterrupts();
main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (e: unknown) => {
    note(errorLine(e));
    process.exitCode = exitCodes.error;
  },
);
