/** What goes wrong on the way to a GPU, and while it computes. Each in a process of its own: a driver is loaded once. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { check } from './checks';

const root = join(__dirname, '../../..');

/** What a script prints as JSON with the stand-in's settings, or in an environment without it. */
export function run(script: string, env: Record<string, string>): Record<string, string> {
  const prelude = `
    const { LLM, estimateMemory } = require('./dist/index.js');
    const { chooseDevice } = require('./dist/engine/device.js');
    const { loadNative, nativeError } = require('./dist/native.js');
    const codeOf = (p) => p.then(() => ({ code: 'none', message: '' }), (e) => ({ code: e.code, message: e.message }));
    const say = (value) => console.log(JSON.stringify(value));
    (async () => {${script}})().catch((e) => say({ code: String(e.code), message: e.stack }));`;
  const result = spawnSync(process.execPath, ['-e', prelude], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  try {
    return JSON.parse(result.stdout) as Record<string, string>;
  } catch {
    return { code: 'none', message: `${result.stdout}${result.stderr}` };
  }
}

export function withoutGpu(): void {
  const expect = (what: string, got: Record<string, string>, code: string, message: RegExp): void =>
    check(got.code === code && message.test(got.message ?? ''), `${what}: received ${JSON.stringify(got)}`);

  const refused = "say(await codeOf(LLM.load('demo', { device: 'cuda' })));";
  const faults: [what: string, settings: string, message: RegExp][] = [
    ['no GPU', 'devices=0', /Expected an NVIDIA GPU/],
    ['an old driver', 'version=12080', /Expected a driver for CUDA 13.* received one for CUDA 12\.8/],
    ['a driver without an entry point', 'hide=cuGraphLaunch', /Expected cuGraphLaunch .* too old/],
    ['an old GPU', 'capability=75', /compute capability 8\.0 or newer .* of 7\.5/],
  ];
  for (const [what, settings, message] of faults) {
    const env = { OCELLI_EMULATED: settings };
    expect(`${what}, 'cuda'`, run(refused, env), 'ERR_CUDA_DRIVER', message);
    const auto = run(
      'const { backend, reason } = await chooseDevice(loadNative()); say({ code: backend, message: reason });',
      env,
    );
    expect(`${what}, 'auto'`, auto, 'cpu', message);
  }
  expect(
    'a GPU of a number that is not there',
    run("say(await codeOf(LLM.load('demo', { device: 'cuda:3' })));", {}),
    'ERR_CUDA_DRIVER',
    /from 0 to 0 .* received 3/,
  );
  // The real driver, by the library of the tests. Where there is one, it answers.
  const real = run(
    "const info = await loadNative().openDevice('out/cuda/build/libocelli_cuda.so', 0).catch(nativeError); say({ code: info.code ?? 'found', message: info.message ?? info.name });",
    { OCELLI_CUDA: '' },
  );
  check(
    (real.code === 'ERR_CUDA_DRIVER' && /NVIDIA's driver \(libcuda\.so\.1\)|NVIDIA GPU/.test(real.message ?? '')) ||
      (real.code === 'found' && real.message !== 'PTX emulator'),
    `the real driver: received ${JSON.stringify(real)}`,
  );
  expect(
    'a library that is none',
    run("say(await codeOf(loadNative().openDevice('./package.json', 0)));", {}),
    'ERR_DEVICE_LIBRARY',
    /does not load/,
  );
  expect('too little memory', run(refused, { OCELLI_EMULATED: 'memory=1000000' }), 'ERR_MEMORY', /weights .* KV block/);
  expect('doctor', doctor({}), 'true', /^PTX emulator, .* free$/);
  expect(
    'doctor without a GPU',
    doctor({ OCELLI_EMULATED: 'devices=0' }),
    'false',
    /NVIDIA GPU.*; device auto means cpu$/,
  );
  // A launch that fails ends the requests of its step; the engine and the next request go on.
  const launch = run(
    `const llm = await LLM.load('demo', { device: 'cuda', maxNumSeqs: 1, kvCacheMemoryBytes: 2 ** 22 });
     const first = await codeOf(llm.generate('one', { maxTokens: 1, temperature: 0 }));
     const second = await codeOf(llm.generate('one', { maxTokens: 1, temperature: 0 }));
     await llm.dispose();
     say({ code: first.code + ' ' + second.code, message: first.message });`,
    { OCELLI_EMULATED: 'races=0,fail=cuLaunchKernel:3:2' },
  );
  expect('a launch that fails', launch, 'ERR_OUT_OF_MEMORY none', /CUDA_ERROR_OUT_OF_MEMORY \(rms_norm at /);
}

/** What `ocelli doctor` says of CUDA: { code: available, message: reason }. */
function doctor(env: Record<string, string>): Record<string, string> {
  const result = spawnSync(process.execPath, ['dist/cli/main.js', 'doctor', '--json'], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  const { cuda } = JSON.parse(result.stdout) as { cuda: { available: boolean; reason: string } };
  return { code: String(cuda.available), message: cuda.reason };
}
