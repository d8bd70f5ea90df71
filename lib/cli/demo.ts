/**
 * `npm run demo`: the model of the package is asked about its sample pictures. Exits 0 only where every answer is the expected one;
 * `--json` prints the same for a machine.
 */
import { readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { LLM } from '../index';
import { loadNative } from '../native';
import { packageRoot } from './build-tools';
import { errorJson, errorLine, exitCodeOf, exitCodes, handleInterrupts, Interrupted, stoppable } from './outcome';
import { faint, note, printJson, seconds, StatusLine } from './terminal';
import { thumbnail } from './thumbnail';

interface Sample {
  image: string;
  question: string;
  /** What the model says, as measured elsewhere: the answer to reproduce. */
  reference: string;
}

interface Outcome extends Sample {
  answer: string;
  right: boolean;
  ms: number;
  tokens: number;
}

const folder = join(packageRoot, 'models', 'demo', 'samples');

async function demo(json: boolean): Promise<boolean> {
  const samples = JSON.parse(await readFile(join(folder, 'samples.json'), 'utf8')) as Sample[];
  const status = new StatusLine();
  status.show('loading the demo model');
  const started = performance.now();
  const llm = await LLM.load('demo');
  const loadMs = performance.now() - started;
  status.clear();
  const say = json ? () => undefined : (text: string) => void process.stdout.write(text);
  try {
    const { cores, isa } = loadNative().info();
    say(`The demo model, loaded in ${seconds(loadMs)}; computing on ${cores} cores (${isa}).\n`);
    const outcomes: Outcome[] = [];
    for (const image of new Set(samples.map((sample) => sample.image))) {
      const path = join(folder, image);
      say(`\n${relative(process.cwd(), path)}\n`);
      for (const line of json ? [] : await thumbnail(path, 28)) say(`  ${line}\n`);
      for (const sample of samples.filter((s) => s.image === image)) outcomes.push(await ask(llm, sample, path, say));
    }
    const ok = outcomes.every((outcome) => outcome.right);
    const totalMs = outcomes.reduce((sum, outcome) => sum + outcome.ms, 0);
    const tokens = outcomes.reduce((sum, outcome) => sum + outcome.tokens, 0);
    const right = outcomes.filter((outcome) => outcome.right).length;
    if (json)
      printJson({ ok, model: 'demo', isa, cores, loadMs, totalMs, right, asked: outcomes.length, answers: outcomes });
    say(`\n${right} of ${outcomes.length} answers as expected, ${tokens} tokens in ${seconds(totalMs)}.\n`);
    if (ok)
      say('Ask it yourself: node dist/cli/main.js chat models/demo/samples/red-ring.png "What color is the ring?"\n');
    return ok;
  } finally {
    await llm.dispose();
  }
}

async function ask(llm: LLM, sample: Sample, image: string, say: (text: string) => void): Promise<Outcome> {
  const started = performance.now();
  say(`  ${sample.question}\n    `);
  const prompt = `USER: <image>\n${sample.question} ASSISTANT:`;
  let answer = '';
  const stream = llm.stream({ prompt, multiModalData: { image } }, { temperature: 0, maxTokens: 60 });
  const result = await stoppable(
    () => stream.abort(),
    async () => {
      for await (const text of stream.textStream) {
        say(answer === '' ? text.trimStart() : text);
        answer += text;
      }
      return stream.result;
    },
  );
  if (result.outputs[0]?.finishReason === 'abort') throw new Interrupted();
  answer = answer.trim();
  const ms = performance.now() - started;
  const right = answer === sample.reference;
  const verdict = right ? '' : `  <- expected: ${sample.reference}`;
  say(`${verdict}  ${faint(seconds(ms), process.stdout)}\n`);
  return { ...sample, answer, right, ms: Math.round(ms * 100) / 100, tokens: result.usage.completionTokens };
}

const json = process.argv.includes('--json');
handleInterrupts();
demo(json).then(
  (ok) => {
    process.exitCode = ok ? exitCodes.done : exitCodes.error;
  },
  (e: unknown) => {
    if (!(e instanceof Interrupted)) note(errorLine(e));
    if (json) process.stdout.write(`${errorJson(e)}\n`);
    process.exitCode = exitCodeOf(e);
  },
);
