/** Flags of the command line that are options of the library: one row each, named as the option in kebab case. */
import { readFileSync } from 'node:fs';
import { InvalidArgumentError, Option, type Command } from 'commander';
import type { EngineOptions, SamplingOptions } from '../index';

interface Flag<Name> {
  name: Name;
  /** The value's placeholder; absent: a switch. */
  value?: string;
  parse?: (text: string, previous?: unknown) => unknown;
  help: string;
}

const engineFlags: readonly Flag<keyof EngineOptions>[] = [
  { name: 'dtype', value: 'NAME', help: 'auto, float32, bfloat16 or float16' },
  { name: 'architecture', value: 'NAME', help: "a model class in place of config.json's, such as Qwen2ForCausalLM" },
  { name: 'lora', value: 'FOLDER', help: 'a LoRA adapter that is added to the weights' },
  { name: 'loadFormat', value: 'NAME', help: 'auto, or dummy: random weights of the right shapes' },
  { name: 'kvCacheDtype', value: 'NAME', help: 'auto, float32, bfloat16 or int8' },
  { name: 'device', value: 'NAME', help: 'auto, cpu, cuda or cuda:<number>' },
  { name: 'threads', value: 'N', parse: number, help: 'threads that compute; default: the cores this process may use' },
  { name: 'maxModelLen', value: 'N', parse: number, help: 'tokens of prompt and answer together' },
  { name: 'maxNumSeqs', value: 'N', parse: number, help: 'answers that are computed at the same time' },
  { name: 'maxNumBatchedTokens', value: 'N', parse: number, help: 'tokens of one step' },
  { name: 'kvCacheMemoryBytes', value: 'SIZE', parse: size, help: 'memory of the KV cache, such as 512M or 2G' },
  { name: 'encoderCacheBytes', value: 'SIZE', parse: size, help: "memory that keeps pictures' features" },
  { name: 'limitMmPerPrompt', value: 'LIST', parse: limits, help: 'items per prompt, such as image=2' },
  { name: 'mmProcessorKwargs', value: 'JSON', parse: json, help: "options of the model's picture processor" },
  { name: 'traceFile', value: 'FILE', help: "writes the engine's steps there, for chrome://tracing" },
  { name: 'chatTemplate', value: 'FILE', parse: file, help: 'a Jinja chat template in place of the model’s own' },
];

const samplingFlags: readonly Flag<keyof SamplingOptions>[] = [
  {
    name: 'temperature',
    value: 'X',
    parse: number,
    help: "0: always the likeliest token; default: the model's, else 0",
  },
  { name: 'topP', value: 'X', parse: number, help: 'only the likeliest tokens that make up this probability' },
  { name: 'topK', value: 'N', parse: number, help: 'only this many of the likeliest tokens' },
  {
    name: 'minP',
    value: 'X',
    parse: number,
    help: "only tokens of at least this share of the likeliest one's probability",
  },
  { name: 'seed', value: 'N', parse: number, help: 'makes a sampled answer repeatable' },
  { name: 'maxTokens', value: 'N', parse: number, help: 'tokens of an answer; default: what the context leaves' },
  { name: 'stop', value: 'TEXT', parse: list, help: 'ends the answer where this text comes; repeatable' },
  { name: 'repetitionPenalty', value: 'X', parse: number, help: 'above 1: repeat less' },
  { name: 'ignoreEos', help: 'go on after the end-of-answer token' },
];

export function addEngineFlags(command: Command): Command {
  return addFlags(command, 'Engine options:', engineFlags);
}

export function addSamplingFlags(command: Command): Command {
  return addFlags(command, 'Sampling options:', samplingFlags);
}

export function engineOptionsOf(options: Record<string, unknown>): EngineOptions {
  return pick(options, engineFlags);
}

export function samplingOptionsOf(options: Record<string, unknown>): SamplingOptions {
  return pick(options, samplingFlags);
}

function addFlags(command: Command, group: string, flags: readonly Flag<string>[]): Command {
  for (const { name, value, parse, help } of flags) {
    const option = new Option(`--${kebab(name)}${value ? ` <${value}>` : ''}`, help).helpGroup(group);
    command.addOption(parse ? option.argParser(parse) : option);
  }
  return command;
}

function pick<T extends object>(options: Record<string, unknown>, flags: readonly Flag<keyof T>[]): T {
  const given = flags.filter(({ name }) => options[name as string] !== undefined);
  return Object.fromEntries(given.map(({ name }) => [name, options[name as string]])) as T;
}

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError('Expected a number.');
  return value;
}

function size(text: string): number {
  const [, digits, unit = ''] = /^(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?$/i.exec(text.trim()) ?? [];
  if (digits === undefined) throw new InvalidArgumentError('Expected bytes, or a number with K, M or G.');
  return Math.floor(Number(digits) * 1024 ** ' kmgt'.indexOf(unit.toLowerCase() || ' '));
}

function limits(text: string): Record<string, number> {
  const entries = text.split(',').map((part) => /^\s*([^=\s]+)=(\d+)\s*$/.exec(part));
  if (!entries.every((entry) => entry !== null))
    throw new InvalidArgumentError('Expected MODALITY=COUNT, such as image=2,video=1.');
  const twice = entries.find(([, name], i) => entries.some((other, j) => j < i && other[1] === name));
  if (twice) throw new InvalidArgumentError(`Expected one count for ${twice[1]} but received two.`);
  return Object.fromEntries(entries.map((entry) => [entry[1], Number(entry[2])]));
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new InvalidArgumentError('Expected JSON.');
  }
}

function file(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (e) {
    throw new InvalidArgumentError(`Expected a readable file (${(e as NodeJS.ErrnoException).code}).`);
  }
}

export function list(text: string, previous?: unknown): string[] {
  return [...((previous as string[] | undefined) ?? []), text];
}
