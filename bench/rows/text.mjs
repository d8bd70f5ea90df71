// Prompts and decoding of TinyLlama-1.1B's shape beside node-llama-cpp on the same GGUF file and transformers.js on an ONNX of that shape;
// SmolLM2-135M's real file beside node-llama-cpp.
import { ggufFile, onnxFolder } from '../models.mjs';
import { byTurns, judged, ratios, told, unmeasured, verdict } from '../pair.mjs';
import { startPeer } from '../peers/peer.mjs';
import { measureRoof, most } from '../roof/roof.mjs';
import { LLM, follow, ids, load1, shapes } from '../serving/engine.mjs';
import { promptOperations, stepBytes } from './arithmetic.mjs';
import { cores, isa, smollm2File } from './machine.mjs';

const tinyllama = 'tinyllama-1.1b';
const shape = shapes[tinyllama];
const promptTokens = 512;
const decoded = 64;
const context = 64;

const formats = {
  bf16: { type: 'bf16', options: { dtype: 'bfloat16' }, body: 'bf16', output: 'bf16', roof: 'bf16' },
  'int8 balanced': { type: 'q8_0', options: { quantization: 'int8' }, body: 'i8', output: 'i8', roof: 'int8' },
  'int8 fast': {
    type: 'q8_0',
    options: { quantization: 'int8', accuracy: 'fast' },
    body: 'i8_rows',
    output: 'i8',
    roof: 'int8',
  },
  int4: { type: 'q4_0', options: { quantization: 'int4' }, body: 'i4', output: 'i8', roof: 'int8' },
};

const open = (file, options, threads, more) =>
  LLM.load(file, { skipTokenizerInit: true, maxModelLen: 1024, maxNumSeqs: 8, threads, ...options, ...more });

const prefill = (llm, tokens, vocab) => async () => {
  const stream = follow(llm, ids(tokens, vocab), { maxTokens: 1 });
  await stream.done;
  return (tokens / stream.ttft()) * 1000;
};

/** Tokens a second of all sequences together, from when the last one has its first token on. */
const decode = (llm, sequences, vocab) => async () => {
  const streams = Array.from({ length: sequences }, () => follow(llm, ids(context, vocab), { maxTokens: decoded }));
  await Promise.all(streams.map((s) => s.done));
  const from = Math.max(...streams.map((s) => s.times[0]));
  const to = Math.max(...streams.map((s) => s.times.at(-1)));
  return (streams.reduce((sum, s) => sum + s.times.filter((t) => t > from).length, 0) / (to - from)) * 1000;
};

async function withPeers(wanted, work) {
  const started = {};
  try {
    for (const [name, [module, options]] of Object.entries(wanted)) started[name] = await startPeer(module, options);
    return await work(started);
  } finally {
    for (const peer of Object.values(started)) await peer.stop?.();
  }
}

/** A condition on our figures by a peer's, or why there is none. */
function beside(found, ours, theirs, peers, atLeast) {
  const what = `${ours} by ${theirs}`;
  const why = peers[theirs.split(' ')[0]]?.why;
  return why !== undefined
    ? unmeasured(what, `>= ${atLeast}`, why)
    : judged(what, ratios(found[ours], found[theirs]), { atLeast });
}

const figures = (found) => Object.fromEntries(Object.entries(found).map(([name, list]) => [name, told(list)]));

function prefillRow(name, goals) {
  const { type, options, roof: kind } = formats[name];
  return async ({ threads = cores, repeat = 5 }) => {
    const load = load1();
    const before = measureRoof(threads);
    const file = ggufFile(tinyllama, type);
    const wanted = { 'node-llama-cpp': ['llama-cpp', { file, threads }] };
    if (goals.transformers) wanted['transformers.js'] = ['transformers', { folder: onnxFolder(tinyllama), threads }];
    const llm = await open(file, options, threads);
    return withPeers(wanted, async (peers) => {
      const sides = { ocelli: prefill(llm, promptTokens) };
      for (const [peer, { call }] of Object.entries(peers))
        if (call) sides[peer] = () => call('prefill', ids(promptTokens));
      const found = await byTurns(sides, repeat);
      await llm.dispose();
      const after = measureRoof(threads);
      const operations = Math.max(most(before, kind, isa), most(after, kind, isa));
      const share = found.ocelli.map(
        (speed) => (promptOperations(shape, promptTokens) * speed) / promptTokens / operations,
      );
      return verdict(
        [
          beside(found, 'ocelli', 'node-llama-cpp', peers, goals.llama),
          ...(goals.transformers ? [beside(found, 'ocelli', 'transformers.js', peers, goals.transformers)] : []),
          ...(goals.roof ? [judged(`share of the ${kind} roof`, share, { atLeast: goals.roof })] : []),
        ],
        {
          unit: 'times, tokens a second of a prompt of 512',
          mode: name,
          peerMode: type,
          tokensPerSecond: figures(found),
          shareOfRoof: told(share, 3),
          roof: operations,
          load,
        },
      );
    });
  };
}

function decodeRow(name, goals) {
  const { type, options, body, output } = formats[name];
  return async ({ threads = cores, repeat = 3 }) => {
    const load = load1();
    const before = measureRoof(threads);
    const file = ggufFile(tinyllama, type);
    const wanted = { 'node-llama-cpp': ['llama-cpp', { file, threads, sequences: 8, contextSize: 512 }] };
    if (goals.transformers) wanted['transformers.js'] = ['transformers', { folder: onnxFolder(tinyllama), threads }];
    const llm = await open(file, options, threads);
    const { kvBytesPerToken } = llm.memoryPlan;
    const int8 =
      goals.notBelowInt8 && (await open(ggufFile(tinyllama, 'q8_0'), formats['int8 balanced'].options, threads));
    return withPeers(wanted, async (peers) => {
      const sides = {};
      for (const sequences of [1, 8]) {
        sides[`ocelli ${sequences}`] = decode(llm, sequences);
        if (int8 && sequences === 8) sides['ocelli int8 8'] = decode(int8, 8);
        for (const [peer, { call }] of Object.entries(peers)) {
          const prompts = () => Array.from({ length: sequences }, () => ids(context));
          if (call) sides[`${peer} ${sequences}`] = () => call('decode', prompts(), decoded);
        }
      }
      const found = await byTurns(sides, repeat);
      await llm.dispose();
      if (int8) await int8.dispose();
      const read = Math.max(before.read, measureRoof(threads).read);
      const share = (sequences) =>
        found[`ocelli ${sequences}`].map((speed) => {
          const seen = context + decoded / 2;
          return (stepBytes(shape, { body, output }, sequences, seen, kvBytesPerToken) * speed) / sequences / read;
        });
      const best = Object.keys(found).filter((side) => side.endsWith(' 8') && !side.startsWith('ocelli'));
      const bestOfPeers = found['ocelli 8'].map((_, i) => Math.max(...best.map((side) => found[side][i])));
      const conditions = [
        judged('share of the read roof, one sequence', share(1), { atLeast: 0.9 }),
        beside(found, 'ocelli 1', 'node-llama-cpp 1', peers, 1.3),
      ];
      if (goals.transformers) conditions.push(beside(found, 'ocelli 1', 'transformers.js 1', peers, 0.97));
      if (goals.eight) {
        conditions.push(
          best.length === 0
            ? unmeasured('8 sequences by the best peer', `>= ${goals.eight}`, peers['node-llama-cpp'].why)
            : judged('8 sequences by the best peer', ratios(found['ocelli 8'], bestOfPeers), { atLeast: goals.eight }),
        );
      }
      if (int8)
        conditions.push(
          judged('8 sequences by int8', ratios(found['ocelli 8'], found['ocelli int8 8']), { atLeast: 1 }),
        );
      return verdict(conditions, {
        unit: 'of the read roof, one sequence',
        mode: name,
        peerMode: type,
        tokensPerSecond: figures(found),
        shareOfReads: { 1: told(share(1), 3), 8: told(share(8), 3) },
        roof: read,
        load,
      });
    });
  };
}

async function smollm2({ threads = cores, repeat = 5 }) {
  const load = load1();
  const file = smollm2File;
  const llm = await open(file, { quantization: 'int4' }, threads);
  const vocab = shapes['smollm2-135m'].vocab_size;
  return withPeers({ 'node-llama-cpp': ['llama-cpp', { file, threads }] }, async (peers) => {
    const sides = { 'ocelli prefill': prefill(llm, promptTokens, vocab), 'ocelli decode': decode(llm, 1, vocab) };
    const { call } = peers['node-llama-cpp'];
    if (call) {
      sides['node-llama-cpp prefill'] = () => call('prefill', ids(promptTokens, vocab));
      sides['node-llama-cpp decode'] = () => call('decode', [ids(context, vocab)], decoded);
    }
    const found = await byTurns(sides, repeat);
    await llm.dispose();
    return verdict(
      [
        beside(found, 'ocelli prefill', 'node-llama-cpp prefill', peers, 1.5),
        beside(found, 'ocelli decode', 'node-llama-cpp decode', peers, 1.8),
      ],
      {
        unit: 'times, prompt',
        mode: 'int4 balanced',
        peerMode: 'the same file, Q4_1',
        tokensPerSecond: figures(found),
        load,
      },
    );
  });
}

export const rows = {
  'prefill-bf16': prefillRow('bf16', { llama: 3, roof: 0.75 }),
  'prefill-int8-balanced': prefillRow('int8 balanced', { llama: 4, transformers: 1.2, roof: 0.58 }),
  'prefill-int8-fast': prefillRow('int8 fast', { llama: 5, transformers: 1.5, roof: 0.72 }),
  'prefill-int4': prefillRow('int4', { llama: 2.3 }),
  'decode-bf16': decodeRow('bf16', {}),
  'decode-int8': decodeRow('int8 balanced', { transformers: 0.97, eight: 1.7 }),
  'decode-int8-fast': decodeRow('int8 fast', { transformers: 0.97, eight: 1.7 }),
  'decode-int4': decodeRow('int4', { notBelowInt8: true }),
  smollm2,
};
