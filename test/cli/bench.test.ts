/** `ocelli bench`: the fields are vLLM's, and they agree with each other. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LLM } from '../../dist/index';
import { randomRequests } from '../../dist/cli/bench-data';
import { measureAll, percentile, throughputFields } from '../../dist/cli/bench-measure';
import { fixtureModels } from '../models/fixtures';
import { run } from './run';

const folder = mkdtempSync(join(tmpdir(), 'ocelli-bench-'));
afterAll(() => rmSync(folder, { recursive: true }));

function json(
  ...args: string[]
): Record<string, number> & { percentiles: Record<string, number>; latencies: number[] } {
  const { status, stdout, stderr } = run(['bench', ...args, '--json']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as never;
}

test('throughput: counts, rates and times', () => {
  const file = join(folder, 'throughput.json');
  // Long enough for several deliveries of each answer, between which there are latencies: a short one may come in one.
  const result = json(
    'throughput',
    '--num-prompts',
    '3',
    '--input-len',
    '9',
    '--output-len',
    '50',
    '--output-json',
    file,
  );
  expect(result).toMatchObject({ num_requests: 3, completed: 3, total_input_tokens: 27, total_output_tokens: 150 });
  expect(result.total_num_tokens).toBe(177);
  expect(result.tokens_per_second! * result.elapsed_time!).toBeCloseTo(177, 6);
  expect(result.output_throughput! * result.duration!).toBeCloseTo(150, 6);
  for (const name of ['ttft', 'tpot', 'itl', 'e2el'])
    for (const kind of ['mean', 'median', 'std', 'p99']) expect(result[`${kind}_${name}_ms`]).toBeGreaterThanOrEqual(0);
  expect(result.mean_e2el_ms).toBeGreaterThan(result.mean_ttft_ms!);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(result);
});

test('pictures count as tokens of the prompt', () => {
  const args = ['--dataset-name', 'pictures', '--images-per-prompt', '2', '--image-size', '96x96', '--n', '2'];
  const result = json('throughput', '--num-prompts', '2', '--input-len', '4', '--output-len', '3', ...args);
  expect(result).toMatchObject({ total_input_tokens: 2 * (4 + 2 * 64), total_output_tokens: 2 * 2 * 3 });
});

test('latency: the percentiles of its batches', () => {
  const args = ['--batch-size', '2', '--num-iters', '3', '--num-iters-warmup', '1', '--output-len', '2'];
  const { latencies, avg_latency: average, percentiles } = json('latency', ...args);
  expect(latencies).toHaveLength(3);
  expect(average).toBeCloseTo((latencies[0]! + latencies[1]! + latencies[2]!) / 3, 12);
  expect(percentiles['50']).toBe([...latencies].sort((a, b) => a - b)[1]);
});

test('random weights need a configuration alone', () => {
  for (const name of ['config.json', 'preprocessor_config.json'])
    copyFileSync(join(fixtureModels, 'llava-1.5', name), join(folder, name));
  const dummy = ['--model', folder, '--load-format', 'dummy', '--dataset-name', 'pictures', '--image-size', '56x56'];
  expect(json('latency', ...dummy, '--num-iters', '1', '--output-len', '2').batch_size).toBe(8);
});

test('a table for people', () => {
  const { stdout, status } = run(['bench', 'throughput', '--num-prompts', '1', '--output-len', '2']);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^requests +1\nduration +\S+ s\n/);
  expect(stdout).toMatch(/^median time to first token +\S+ ms$/m);
});

test.each([
  [['throughput', '--range-ratio', '1']],
  [['throughput', '--input-len', '2000']],
  [['latency', '--model', join(fixtureModels, 'llama'), '--dataset-name', 'pictures']],
])('wrong usage: %j', (args) => {
  expect(run(['bench', ...args]).status).not.toBe(0);
});

test('percentiles lie between the two nearest values', () => {
  expect([0, 50, 99, 100].map((p) => percentile([4, 1, 3, 2], p))).toEqual([1, 2.5, 3.97, 4]);
});

describe('in this process', () => {
  let llm: LLM;
  beforeAll(async () => {
    llm = await LLM.load('demo');
  });
  afterAll(() => llm.dispose());
  const flags = { inputLen: 20, outputLen: 10, imagesPerPrompt: 0, imageSize: { width: 1, height: 1 } };

  test('lengths vary by the ratio; the same seed gives the same prompts; no id has a meaning of its own', () => {
    const requests = randomRequests(llm, { ...flags, rangeRatio: 0.5 }, 300, 1);
    const lengths = requests.map((r) => r.prompt.promptTokenIds.length);
    expect([Math.min(...lengths), Math.max(...lengths)]).toEqual([10, 30]);
    const outputs = requests.map((r) => r.outputLen);
    expect([Math.min(...outputs), Math.max(...outputs)]).toEqual([5, 15]);
    expect(randomRequests(llm, { ...flags, rangeRatio: 0.5 }, 300, 1)).toEqual(requests);
    const ids = new Set(requests.flatMap((r) => r.prompt.promptTokenIds));
    expect(ids.has(llm.modelConfig.hfConfig.image_token_index as number)).toBe(false);
    expect(ids.size).toBeGreaterThan(400);
  });

  test('at a rate requests come apart; one token has no time per output token', async () => {
    const requests = randomRequests(llm, { ...flags, outputLen: 1, rangeRatio: 0 }, 20, 1);
    const { measured, duration } = await measureAll(llm, requests, { ignoreEos: true }, { requestRate: 100, seed: 3 });
    // The seed's 19 gaps add up to no less than 0.1 s.
    expect(duration).toBeGreaterThan(0.1);
    expect(throughputFields(measured, duration)).toMatchObject({
      completed: 20,
      mean_tpot_ms: null,
      mean_itl_ms: null,
    });
  });
});
