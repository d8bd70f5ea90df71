// How long loading takes beside reading the file, and how much memory a busy engine has beside what was planned.
import { fork, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { safetensorsFolder } from '../models.mjs';
import { judged, ratios, told, verdict } from '../pair.mjs';
import { LLM, follow, ids, load1, median } from '../serving/engine.mjs';
import { cores } from './machine.mjs';

const shape = 'tinyllama-1.1b';
const options = { skipTokenizerInit: true, dtype: 'bfloat16', maxModelLen: 2048, maxNumSeqs: 4 };
const allowance = 100 * 2 ** 20;

/** Takes the file out of the page cache, where the system lets us (GNU dd). */
function forget(file) {
  const { status } = spawnSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0'], { stdio: 'ignore' });
  return status === 0;
}

function readMs(file) {
  const started = performance.now();
  const buffer = Buffer.alloc(8 << 20);
  const at = openSync(file, 'r');
  while (readSync(at, buffer) > 0);
  closeSync(at);
  return performance.now() - started;
}

async function loadMs(folder, threads) {
  const started = performance.now();
  const llm = await LLM.load(folder, { ...options, threads });
  const ms = performance.now() - started;
  await llm.dispose();
  return ms;
}

async function load({ threads = cores, repeat = 3 }) {
  const load1Before = load1();
  const folder = safetensorsFolder(shape);
  const file = join(folder, 'model.safetensors');
  const found = { read: [], first: [], second: [] };
  let cold = true;
  for (let i = 0; i < repeat; i++) {
    cold &&= forget(file);
    found.read.push(readMs(file));
    cold &&= forget(file);
    found.first.push(await loadMs(folder, threads));
    found.second.push(await loadMs(folder, threads));
  }
  return verdict(
    [
      judged("first load by the file's read time", ratios(found.first, found.read), { atMost: 1.5 }),
      judged(
        'second load, seconds',
        found.second.map((ms) => ms / 1000),
        { atMost: 1 },
      ),
    ],
    {
      unit: 'times the read time',
      ms: Object.fromEntries(Object.entries(found).map(([name, list]) => [name, told(list, 0)])),
      bytes: statSync(file).size,
      pageCacheDropped: cold,
      load: load1Before,
    },
  );
}

const rssAnon = () => Number(/RssAnon:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;

/** In a process of its own: { before, peak, plan } while every sequence grows to the planned length. */
async function busyEngine(folder, threads) {
  const before = rssAnon();
  let peak = 0;
  const sample = setInterval(() => (peak = Math.max(peak, rssAnon())), 20);
  const llm = await LLM.load(folder, { ...options, threads, enablePrefixCaching: false });
  const { maxNumSeqs, maxModelLen } = llm.memoryPlan;
  const prompt = maxModelLen - 16;
  await Promise.all(Array.from({ length: maxNumSeqs }, () => follow(llm, ids(prompt), { maxTokens: 16 }).done));
  clearInterval(sample);
  const answer = { before, peak: Math.max(peak, rssAnon()), plan: llm.memoryPlan };
  await llm.dispose();
  return answer;
}

async function memory({ threads = cores, repeat = 1 }) {
  const load1Before = load1();
  const folder = safetensorsFolder(shape);
  const found = [];
  for (let i = 0; i < repeat; i++) {
    const child = fork(fileURLToPath(import.meta.url), [folder, String(threads)]);
    found.push(
      await new Promise((resolve, reject) => {
        child.once('message', resolve);
        child.once('exit', (code) => reject(new Error(`the measured process ended with ${code}`)));
      }),
    );
  }
  const share = found.map(({ peak, plan }) => peak / (plan.total + allowance));
  const mib = (bytes) => Math.round(bytes / 2 ** 20);
  return verdict([judged('peak RssAnon by memoryPlan.total + 100 MiB', share, { atMost: 1 })], {
    unit: 'of what was planned',
    mib: {
      peak: mib(median(found.map((f) => f.peak))),
      planned: mib(found[0].plan.total),
      beforeLoading: mib(found[0].before),
    },
    load: load1Before,
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send) {
  process.send(await busyEngine(process.argv[2], Number(process.argv[3])), () => process.exit());
}

export const rows = { load, memory };
