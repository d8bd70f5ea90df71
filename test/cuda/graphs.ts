/** Steps that come again in the same sizes are one launch of a graph: with the bits of the same steps op by op. */
import { check } from './checks';
import { run } from './without-gpu';

/** Three sequences that end at different times, so that decode steps of three, of two and of one sequence come again. */
const script = (folder: string): string => `
  const llm = await LLM.load(${JSON.stringify(folder)}, { device: 'cuda', dtype: 'float32', maxNumSeqs: 3, maxNumBatchedTokens: 64 });
  const prompts = [[5, 6, 7], [9, 10, 11, 12], [3]];
  const answer = (promptTokenIds, i) =>
    llm.generate({ promptTokenIds }, { temperature: 0.7, seed: i, maxTokens: 4 + 3 * i, ignoreEos: true, logprobs: 2 });
  const outputs = await Promise.all(prompts.map(answer)).finally(() => llm.dispose());
  const bits = outputs.map(({ outputs: [o] }) => [o.tokenIds, o.logprobs.map((step) => [...step])]);
  say({ code: 'none', message: JSON.stringify(bits) });`;

export function graphs(folder: string): void {
  const answers = (fault: string): Record<string, string> =>
    run(script(folder), { OCELLI_EMULATED: `races=0${fault && `,fail=${fault}`}` });
  const replayed = answers('');
  check(
    replayed.code === 'none' && replayed.message?.includes('logprob') === true,
    `answers: ${JSON.stringify(replayed)}`,
  );
  for (const entry of ['cuStreamBeginCapture', 'cuStreamEndCapture', 'cuGraphInstantiateWithFlags']) {
    const launched = answers(`${entry}:0:801`);
    check(
      launched.message === replayed.message,
      `the same bits without graphs, where ${entry} fails: ${launched.message}`,
    );
  }
  // A graph's first launch, and the third, which is not of the first sizes any more: what fails in one ends its step's requests.
  for (const launch of [1, 3]) {
    const failed = answers(`cuGraphLaunch:${launch}:719`);
    check(
      failed.code === 'ERR_CUDA' && /a launch of a graph.*LAUNCH_FAILED \(in program/.test(failed.message ?? ''),
      `launch ${launch} of a graph fails: received ${JSON.stringify(failed)}`,
    );
  }
}
