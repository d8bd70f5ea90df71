/** The command line as a user runs it: a process with pipes, or one on a terminal (util-linux' script makes one). */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../models/fixtures';

export const main = join(root, 'dist', 'cli', 'main.js');
export const samples = join(root, 'models', 'demo', 'samples');
export const circles = join(samples, 'three-circles.png');
export const howMany = 'How many objects are there?';

export interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** @param env undefined values are taken out of the environment */
export function run(args: readonly string[], options: { input?: string; env?: NodeJS.ProcessEnv } = {}): Ended {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    input: options.input ?? '',
    env: { ...process.env, ...options.env },
    timeout: 50_000,
  });
  return { status, stdout, stderr };
}

/**
 * The demo model's files around a text model of 100 M random weights: an answer of hundreds of tokens takes seconds, on whatever machine.
 * Returns the flags that load it; the caller removes the folder.
 */
export function slowModel(): { folder: string; flags: string[] } {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-slow-'));
  const demo = join(root, 'models', 'demo');
  for (const file of readdirSync(demo))
    if (/\.(json|jinja)$/.test(file)) copyFileSync(join(demo, file), join(folder, file));
  const config = JSON.parse(readFileSync(join(demo, 'config.json'), 'utf8')) as { text_config: object };
  const size = { hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 6 };
  Object.assign(config.text_config, size, { num_attention_heads: 16, num_key_value_heads: 8, head_dim: 64 });
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  return { folder, flags: ['--model', folder, '--load-format', 'dummy', '--ignore-eos', '--max-tokens', '900'] };
}

/** A command on a terminal of its own: what it writes, what is typed into it, and how it ends. */
export class Terminal {
  /** Everything written so far, escape sequences included. */
  output = '';
  readonly ended: Promise<number | null>;
  private readonly process: ChildProcess;
  private waiters: (() => void)[] = [];

  constructor(args: readonly string[]) {
    const quoted = [process.execPath, main, ...args].map((arg) => `'${arg.replace(/'/g, `'\\''`)}'`).join(' ');
    this.process = spawn('script', ['-qec', quoted, '/dev/null'], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, TERM: 'xterm-256color', SHELL: '/bin/sh' },
    });
    this.process.stdout?.on('data', (chunk: Buffer) => {
      this.output += chunk.toString();
      this.wake();
    });
    this.ended = new Promise((resolve) => {
      this.process.on('close', (status) => {
        resolve(status);
        this.wake();
      });
    });
  }

  type(text: string): void {
    this.process.stdin?.write(text);
  }

  /** Until the output after `from` matches; returns the place behind the match. */
  async sees(pattern: RegExp, from = 0): Promise<number> {
    for (;;) {
      const match = pattern.exec(this.output.slice(from));
      if (match) return from + match.index + match[0].length;
      if (this.process.exitCode !== null) throw new Error(`Ended before ${pattern} came:\n${this.output}`);
      await new Promise<void>((resolve) => this.waiters.push(resolve));
    }
  }

  kill(): void {
    this.process.kill('SIGKILL');
  }

  private wake(): void {
    const waiting = this.waiters;
    this.waiters = [];
    for (const resolve of waiting) resolve();
  }
}

export const ctrlC = '\x03';
export const ctrlD = '\x04';
