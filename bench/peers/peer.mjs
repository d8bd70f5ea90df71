// A peer engine in a process of its own, so that its threads and memory are not ours; asked turn by turn, so that both sides of a pair
// meet the same disturbances.
import { fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const packages = {
  'llama-cpp': 'node-llama-cpp',
  transformers: '@huggingface/transformers',
  onnxruntime: 'onnxruntime-node',
  sharp: 'sharp',
  jimp: 'jimp',
};

/** { why } where the peer is not installed or does not start, else { call(operation, ...arguments), stop() }. */
export async function startPeer(name, options) {
  try {
    createRequire(import.meta.url).resolve(packages[name]);
  } catch {
    return { why: `${packages[name]} is not installed: npm install --prefix bench` };
  }
  const child = fork(fileURLToPath(import.meta.url), [name], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  let errors = '';
  child.stderr.on('data', (data) => (errors = (errors + data).slice(-4000)));
  let waiting;
  const settle = (answer) => {
    waiting?.(answer);
    waiting = undefined;
  };
  child.on('message', settle);
  child.on('exit', () => settle({ error: `${packages[name]} ended: ${errors.trim().split('\n').pop()}` }));
  const call = async (operation, ...args) => {
    if (!child.connected) throw new Error(`${packages[name]} has ended`);
    const answer = new Promise((resolve) => (waiting = resolve));
    child.send({ operation, args });
    const { value, error } = await answer;
    if (error !== undefined) throw new Error(error);
    return value;
  };
  const stop = () => {
    const gone = new Promise((resolve) => child.once('exit', resolve));
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    else return undefined;
    return gone;
  };
  try {
    await call('start', options);
  } catch (e) {
    await stop();
    return { why: e.message };
  }
  return { name: packages[name], call, stop };
}

/** The child: the module NAME.mjs exports start(options), which resolves with its operations. */
if (process.argv[1] === fileURLToPath(import.meta.url) && process.send) {
  const { start } = await import(`./${process.argv[2]}.mjs`);
  let operations = {
    start: async (options) => {
      operations = await start(options);
    },
  };
  process.on('message', async ({ operation, args }) => {
    try {
      process.send({ value: await operations[operation](...args) });
    } catch (e) {
      process.send({ error: e.message });
    }
  });
}
