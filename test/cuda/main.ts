/**
 * Whole models with `device: 'cuda'`, on the driver's stand-in in `npm run test:cuda`, which builds what this needs and adds up its last
 * line, and on a GPU in `npm run gpu-check`. Bounds are those of the CPU. With names, those models' goldens alone.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { LLM, type RequestOutput } from '../../dist/index';
import { readGoldenFolder, type GoldenCase, type GoldenFolder } from '../goldens/folder';
import { runFolder } from '../goldens/run';
import { shared } from '../media/pictures';
import { fixtureModels } from '../models/fixtures';
import { check, counts } from './checks';
import { graphs } from './graphs';
import { withoutGpu } from './without-gpu';

/** All cases where they lie beside the repository, else those that it has a copy of. */
const folders = existsSync(join(shared, 'golden/models')) ? join(shared, 'golden/models') : fixtureModels;
const models = ['llama', 'llava-1.5', 'llava-next-llama', 'llava-next-mistral'].filter((name) =>
  existsSync(join(folders, name)),
);
/** A sum that rounds otherwise turns a quant now and then, by a 127th of its block's largest: as much as one such turn moves a logit. */
const quantizedBound = 0.002;
/** As many tokens as cross from prompt to decoding and on. */
const maxTokens = 6;

/** Else it is a GPU's own driver. */
const emulated = process.env.OCELLI_CUDA === 'emulated';

async function goldens(name: string): Promise<void> {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const report = await runFolder(join(folders, name), { backend: 'cuda', dtype, threads: 0 });
    const wrong = [...report.failures, ...report.cases.flatMap((c) => c.failures)];
    const text = wrong.map((c) => `${c.what} ${c.error} of ${c.bound}`).join(', ');
    check(report.ok && report.skipped === undefined, `${name} in ${dtype}: ${report.skipped ?? text}`);
    for (const c of report.cases) check(c.ok, `${name} in ${dtype}: ${c.name}`);
    const { what, error, bound } = report.worst ?? { what: 'nothing', error: NaN, bound: NaN };
    process.stdout.write(
      `${name}, ${dtype}: ${report.cases.length} cases; nearest to a bound: ${what} ${error} of ${bound}\n`,
    );
  }
}

/** The engine itself: prompts and pictures at once, in chunks beside each other, sampled and decoded; then each alone. */
async function serving(name: string): Promise<void> {
  const folder = readGoldenFolder(join(folders, name));
  const cases = folder.cases.filter((c) => c.prompt !== null && c.image_embeds === undefined && !c.processor_kwargs);
  const some = cases.slice(0, 3);
  await using llm = await LLM.load(folder.path, {
    device: 'cuda',
    dtype: 'float32',
    maxNumSeqs: 4,
    maxNumBatchedTokens: 64,
    ...(some.some((c) => c.images.length > 0) ? { limitMmPerPrompt: { image: 4 } } : {}),
  });
  check(
    (!emulated || llm.memoryPlan.limit <= 2 ** 30) && llm.memoryPlan.kvBlocks > 0,
    `${name}: memory is the device's`,
  );
  const together = await Promise.all(some.map((c) => answer(llm, folder, c)));
  for (const [i, c] of some.entries()) {
    const output = together[i]!.outputs[0]!;
    check(output.tokenIds.join() === c.greedy.token_ids.slice(0, maxTokens).join(), `${name}, ${c.name}: its tokens`);
    const errors = output.tokenIds.map((id, at) =>
      Math.abs((output.logprobs?.[at]?.get(id)?.logprob ?? Infinity) - c.greedy.logprobs[at]!),
    );
    check(errors.length === maxTokens && Math.max(...errors) <= 1e-4, `${name}, ${c.name}: its log-probabilities`);
    if (i > 0) continue;
    const alone = (await answer(llm, folder, c)).outputs[0]!;
    check(
      JSON.stringify(bitsOf(alone)) === JSON.stringify(bitsOf(output)),
      `${name}, ${c.name}: the same bits alone as among others`,
    );
  }
}

/** Quantised weights: the same blocks and quants as on the processor, so that only what other ops round otherwise is between the two. */
async function quantized(name: string, quantization: 'int8' | 'int4'): Promise<void> {
  const folder = readGoldenFolder(join(folders, name));
  const answers = async (device: 'cpu' | 'cuda'): Promise<RequestOutput[]> => {
    await using llm = await LLM.load(folder.path, {
      device,
      dtype: 'float32',
      quantization,
      maxNumSeqs: 2,
      maxNumBatchedTokens: 64,
    });
    return await Promise.all(folder.cases.slice(0, 2).map((c) => answer(llm, folder, c)));
  };
  const [theirs, ours] = [await answers('cpu'), await answers('cuda')];
  let most = 0;
  for (const [i, output] of ours.entries()) {
    const [a, b] = [theirs[i]!.outputs[0]!, output.outputs[0]!];
    const same = a.tokenIds.length === maxTokens && a.tokenIds.join() === b.tokenIds.join();
    check(same, `${name} in ${quantization}, ${folder.cases[i]!.name}: its tokens`);
    for (const [at, id] of a.tokenIds.entries()) {
      const [p, q] = [a.logprobs?.[at]?.get(id)?.logprob ?? NaN, b.logprobs?.[at]?.get(id)?.logprob ?? NaN];
      most = Math.max(most, Number.isNaN(p - q) ? Infinity : Math.abs(p - q));
    }
  }
  check(most <= quantizedBound, `${name} in ${quantization}: log-probabilities ${most} from the CPU's`);
  process.stdout.write(`${name}, ${quantization}: log-probabilities at most ${most} from the CPU's\n`);
}

const bitsOf = ({ tokenIds, logprobs }: RequestOutput['outputs'][number]): unknown => [
  tokenIds,
  logprobs?.map((step) => [...step]),
];

function answer(llm: LLM, folder: GoldenFolder, golden: GoldenCase): Promise<RequestOutput> {
  const { prompt_token_ids: promptTokenIds, images } = golden;
  const multiModalData = images.length > 0 ? { image: images.map((i) => folder.picture(i)) } : undefined;
  const prompt = { promptTokenIds, ...(multiModalData ? { multiModalData } : {}) };
  return llm.generate(prompt as never, { temperature: 0, maxTokens, ignoreEos: true, logprobs: 1 });
}

async function main(): Promise<void> {
  const { positionals } = parseArgs({ allowPositionals: true });
  for (const name of positionals.length > 0 ? positionals : models) await goldens(name);
  if (positionals.length === 0) {
    for (const name of ['llama', 'llava-next-mistral']) await serving(name);
    for (const quantization of ['int8', 'int4'] as const) await quantized('llama', quantization);
    if (emulated) graphs(join(folders, 'llama'));
    if (emulated) withoutGpu();
  }
  process.stdout.write(`whole models: 0 kernels, 0 instances, ${counts.checks} checks, ${counts.failed} failed\n`);
  process.exitCode = counts.failed > 0 ? 1 : 0;
}

main().catch((e: unknown) => {
  process.stdout.write(`FAILED ${(e as Error).stack}\n`);
  process.exitCode = 1;
});
