import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LLM } from '../../dist/index';
import { codeOf, question } from './models';

const greedy = { temperature: 0, maxTokens: 40 };

test('a trace shows steps, chunks, encoder slices and the threads of the pool', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'ocelli-trace-')), 'trace.json');
  const llm = await LLM.load('demo', { traceFile: file, threads: 2, maxNumBatchedTokens: 32 });
  await llm.generate([question('Describe the image.'), question('How many objects are there?')], greedy);
  await llm.dispose();
  interface Event {
    ph: string;
    name: string;
    tid: number;
    ts: number;
    dur?: number;
    args: Record<string, number | string>;
  }
  const events = JSON.parse(readFileSync(file, 'utf8')) as Event[];
  const named = (name: string): Event[] => events.filter((e) => e.name === name && e.ph !== 'e');
  expect(named('thread_name').map((e) => e.args.name)).toEqual(
    expect.arrayContaining(['engine', 'encoder', 'pool thread 0', 'pool thread 1']),
  );
  const steps = named('step');
  for (const step of steps) {
    expect(step.dur).toBeGreaterThan(0);
    expect(step.args.rows).toBeLessThanOrEqual(32);
    const forward = named('forward').find((e) => e.ts >= step.ts && e.ts + e.dur! <= step.ts + step.dur!);
    expect(forward).toBeDefined();
  }
  expect(named('prefill').length).toBeGreaterThan(4);
  expect(named('decode').length).toBeGreaterThan(20);
  expect(named('encode').length).toBeGreaterThan(0);
});

test('a trace file that cannot be written is said at load', async () => {
  expect(await codeOf(LLM.load('demo', { traceFile: '/nowhere/at/all/trace.json' }))).toBe('ERR_TRACE_FILE');
});

test('diagnostics channels tell of each request from call to end', async () => {
  const heard: [string, Record<string, unknown>][] = [];
  const names = ['ocelli:engine:load', 'ocelli:request:start', 'ocelli:request:submit', 'ocelli:request:end'];
  const listen = (message: unknown, name: string | symbol): void =>
    void heard.push([String(name), message as Record<string, unknown>]);
  for (const name of names) subscribe(name, listen);
  const llm = await LLM.load('demo');
  await llm.generate('USER: Hi ASSISTANT:', { maxTokens: 2, ignoreEos: true }, { requestId: 'heard' });
  await codeOf(llm.generate('<image>', {}, { requestId: 'refused' }));
  await llm.dispose();
  for (const name of names) unsubscribe(name, listen);
  const of = (id: string): string[] => heard.filter(([, m]) => m.requestId === id).map(([name]) => name);
  expect(heard[0]![0]).toBe('ocelli:engine:load');
  expect(of('heard')).toEqual(names.slice(1));
  expect(of('refused')).toEqual(['ocelli:request:start', 'ocelli:request:end']);
  const end = heard.find(([name, m]) => name === names[3] && m.requestId === 'heard')![1];
  expect(end).toMatchObject({ usage: { completionTokens: 2 }, finishReasons: ['length'] });
});

describe('a reader that stops', () => {
  const long = { temperature: 0, maxTokens: 400, ignoreEos: true, logprobs: 0 };

  test('holds its own request up, nobody else, and loses nothing', async () => {
    const llm = await LLM.load('demo');
    const free = await llm.generate(question('Describe the image.'), long);
    const stream = llm.stream(question('Describe the image.'), long, { maxUnreadTokens: 8 });
    const ids: number[] = [];
    let most = 0;
    for await (const item of stream) {
      ids.push(...item.outputs[0]!.tokenIds);
      most = Math.max(most, item.outputs[0]!.tokenIds.length);
      if (ids.length < 40) {
        const other = await llm.generate(question('How many objects are there?'), greedy);
        expect(other.outputs[0]!.text.trim()).toBe('Four.');
      }
    }
    expect(ids).toEqual(free.outputs[0]!.tokenIds);
    expect((await stream.result).outputs[0]!.logprobs).toEqual(free.outputs[0]!.logprobs);
    // What the engine had made before it heard of the hold comes too.
    expect(most).toBeLessThan(200);
    await llm.dispose();
  });

  test('an engine whose every request is held waits, and is disposed of all the same', async () => {
    const llm = await LLM.load('demo');
    const stream = llm.stream(question('Describe the image.'), long, { maxUnreadTokens: 4 });
    const iterator = stream[Symbol.asyncIterator]();
    await iterator.next();
    await new Promise((resolve) => setTimeout(resolve, 150));
    const { steps, kvBlocksUsed } = llm.stats();
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(llm.stats().steps).toBe(steps);
    expect(kvBlocksUsed).toBe(0);
    await llm.dispose();
    expect((await stream.result).outputs[0]!.finishReason).toBe('abort');
  });

  test('nobody reads: the result comes', async () => {
    const llm = await LLM.load('demo');
    const output = await llm.generate(question('Describe the image.'), long, { maxUnreadTokens: 1 });
    expect(output.usage.completionTokens).toBe(400);
    await llm.dispose();
  });
});
