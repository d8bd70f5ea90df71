// Pictures: the vision tower, the time to a first token about one, and from a file's bytes to the tensor.
import { readFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { onnxEncoder, onnxLlavaFolder } from '../models.mjs';
import { native } from '../ops/op.mjs';
import { byTurns, judged, ratios, told, unmeasured, verdict } from '../pair.mjs';
import { startPeer } from '../peers/peer.mjs';
import { cpuMs, resizedTo, side } from '../peers/pixels.mjs';
import { measureRoof, most } from '../roof/roof.mjs';
import { follow, ids, load, load1, placeholder, processor, round, shapes } from '../serving/engine.mjs';
import { towerOperations } from './arithmetic.mjs';
import { cores, isa } from './machine.mjs';

const { decodeImage } = createRequire(import.meta.url)('../../dist/media/decode.js');
const photo = readFileSync(fileURLToPath(new URL('../e2e/photo-1024x768.jpg', import.meta.url)));
const llava = 'clip-l-336+tinyllama-1.1b';
/** llama.cpp with a bfloat16 mmproj, on another day; no package of npm runs that tower in bfloat16. */
const notedBf16Seconds = 1.04;

/** transformers.js does only what is spelled out. */
const completeProcessor = {
  ...processor,
  do_resize: true,
  do_center_crop: true,
  do_rescale: true,
  rescale_factor: 1 / 255,
  do_normalize: true,
};

/** Another picture each time, so that no cache answers: the steps of some low frequencies of a quantisation table differ. */
function another(n) {
  const bytes = Buffer.from(photo);
  const table = bytes.findIndex((b, i) => b === 0xff && bytes[i + 1] === 0xdb) + 5;
  for (let digit = 0, rest = n; digit < 3; digit++, rest = Math.floor(rest / 16)) bytes[table + digit] += rest % 16;
  return bytes;
}

/** The tower's features of one tensor, by the model's own program. */
function encoder(llm) {
  const data = Float32Array.from({ length: 3 * side * side }, (_, i) => Math.sin(i * 0.7));
  const pixelValues = { dtype: 'f32', shape: [1, 3, side, side], data };
  const { handle } = llm.model;
  return () => native.runProgram(handle, 1, { pixelValues }, { N: 1 });
}

async function leastCosine(exact, llm) {
  const [a, b] = [(await exact()).outputs.features, (await encoder(llm)()).outputs.features];
  const width = a.shape.at(-1);
  let least = 1;
  for (let at = 0; at < a.data.length; at += width) {
    let [ab, aa, bb] = [0, 0, 0];
    for (let i = at; i < at + width; i++) {
      ab += a.data[i] * b.data[i];
      aa += a.data[i] ** 2;
      bb += b.data[i] ** 2;
    }
    least = Math.min(least, ab / Math.sqrt(aa * bb));
  }
  return least;
}

async function clipEncode({ threads = cores, repeat = 5 }) {
  const load1Before = load1();
  const before = measureRoof(threads);
  const shape = 'clip-l-336';
  const options = { threads, seed: 1, maxModelLen: 1024 };
  const loaded = {
    'int8 fast': await load(shape, { ...options, quantization: 'int8', accuracy: 'fast' }),
    'int8 balanced': await load(shape, { ...options, quantization: 'int8' }),
    bf16: await load(shape, options),
  };
  const exact = await load(shape, { ...options, dtype: 'float32' });
  const cosine = {};
  for (const [mode, llm] of Object.entries(loaded)) cosine[mode] = await leastCosine(encoder(exact), llm);
  await exact.dispose();
  const vision = shapes[shape].vision_config;
  const rows = (vision.image_size / vision.patch_size) ** 2 + 1;
  const peer = await startPeer('onnxruntime', {
    file: onnxEncoder(shape),
    threads,
    shape: [1, rows, vision.hidden_size],
  });
  const timed = (run) => async () => {
    const started = performance.now();
    await run();
    return performance.now() - started;
  };
  const sides = Object.fromEntries(Object.entries(loaded).map(([mode, llm]) => [mode, timed(encoder(llm))]));
  if (peer.call) sides.onnxruntime = () => peer.call('run');
  const found = await byTurns(sides, repeat);
  await Promise.all([...Object.values(loaded).map((llm) => llm.dispose()), peer.stop?.()]);
  const after = measureRoof(threads);
  const share = (mode) => {
    const roof = Math.max(...[before, after].map((measured) => most(measured, mode.split(' ')[0], isa)));
    return found[mode].map((ms) => ((towerOperations(shapes[shape]) / ms) * 1000) / roof);
  };
  // Rows against rows: one scale each, as the peer has.
  const what = 'int8 fast by onnxruntime q8';
  return verdict(
    [
      peer.call
        ? judged(what, ratios(found['int8 fast'], found.onnxruntime), { atMost: 0.7 })
        : unmeasured(what, '<= 0.7', peer.why),
      judged("least cosine of int8 fast's rows to float32's", [cosine['int8 fast']], { atLeast: 0.999 }),
      judged(
        `bf16 by llama.cpp's ${notedBf16Seconds} s, noted elsewhere`,
        found.bf16.map((ms) => ms / 1000 / notedBf16Seconds),
        { atMost: 0.5 },
      ),
    ],
    {
      unit: "of the peer's time",
      mode: 'int8 fast: one scale a row on either side, random weights',
      peerMode: 'q8, one scale a tensor',
      ms: Object.fromEntries(Object.entries(found).map(([name, list]) => [name, told(list)])),
      shareOfRoof: Object.fromEntries(Object.keys(loaded).map((mode) => [mode, told(share(mode), 3)])),
      cosine,
      load: load1Before,
    },
  );
}

async function ttftLlava({ threads = cores, repeat = 5 }) {
  const load1Before = load1();
  const options = { threads, quantization: 'int8', maxModelLen: 1024, maxNumSeqs: 2 };
  const modes = { fast: await load(llava, { ...options, accuracy: 'fast' }), balanced: await load(llava, options) };
  const peer = await startPeer('transformers', { folder: onnxLlavaFolder(llava), threads, llava: completeProcessor });
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-bench-'));
  const text = 63;
  let asked = 0;
  const delays = [];
  const picture = () => {
    const path = join(folder, `${asked}.jpg`);
    writeFileSync(path, another(asked++));
    return path;
  };
  try {
    const ours = (llm) => async () => {
      const image = picture();
      const histogram = monitorEventLoopDelay({ resolution: 1 });
      histogram.enable();
      const stream = follow(
        llm,
        { promptTokenIds: [1, placeholder, ...ids(text)], multiModalData: { image } },
        { maxTokens: 1 },
      );
      await stream.done;
      histogram.disable();
      delays.push(histogram.percentile(99) / 1e6);
      return stream.ttft();
    };
    const patches = 576;
    const theirs = () => peer.call('firstToken', picture(), [1, ...Array(patches).fill(placeholder), ...ids(text)]);
    const sides = Object.fromEntries(Object.entries(modes).map(([mode, llm]) => [`ocelli ${mode}`, ours(llm)]));
    if (peer.call) sides['transformers.js'] = theirs;
    const found = await byTurns(sides, repeat);
    const what = 'ocelli int8 fast by transformers.js q8';
    return verdict(
      [
        peer.call
          ? judged(what, ratios(found['ocelli fast'], found['transformers.js']), { atMost: 0.65 })
          : unmeasured(what, '<= 0.65', peer.why),
        judged('p99 delay of our event loop, ms', delays, { atMost: 20 }),
      ],
      {
        unit: "of the peer's time to first token",
        mode: 'int8 fast: one scale a row on either side',
        peerMode: 'q8, one scale a tensor',
        ms: Object.fromEntries(Object.entries(found).map(([name, list]) => [name, told(list)])),
        load: load1Before,
      },
    );
  } finally {
    await Promise.all([...Object.values(modes).map((llm) => llm.dispose()), peer.stop?.()]);
    rmSync(folder, { recursive: true });
  }
}

/** A JPEG of a camera's size: the small one enlarged, with grain, so that there is something to decode. */
async function cameraJpeg() {
  let sharp;
  try {
    ({ default: sharp } = await import('sharp'));
  } catch {
    return undefined;
  }
  const size = { width: 4032, height: 3024 };
  const pixels = await sharp(photo).resize(size.width, size.height).removeAlpha().raw().toBuffer();
  let state = 1;
  for (let i = 0; i < pixels.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    pixels[i] = Math.max(0, Math.min(255, pixels[i] + (state >>> 28) - 8));
  }
  return sharp(pixels, { raw: { ...size, channels: 3 } })
    .jpeg({ quality: 90 })
    .toBuffer();
}

async function pictureToTensor({ repeat = 15 }) {
  const load = load1();
  const conditions = [];
  const ms = {};
  const files = { '1024x768': [photo, 0.6], '4032x3024': [await cameraJpeg(), 0.75] };
  for (const [name, [bytes, atMost]] of Object.entries(files)) {
    const what = `${name} by sharp's full decoding`;
    if (!bytes) {
      conditions.push(unmeasured(what, `<= ${atMost}`, 'sharp is not installed: npm install --prefix bench'));
      continue;
    }
    const once = async () => {
      const raster = native.newRaster(); // as requests have it
      const { width, height } = await decodeImage(bytes, {}, raster);
      const [w, h] = resizedTo(width, height);
      const [left, top] = [(w - side) >> 1, (h - side) >> 1];
      const steps = [
        { op: 'resize', width: w, height: h, filter: 'bicubic' },
        { op: 'crop', left, top, width: side, height: side },
      ];
      const { image_mean: mean, image_std: std } = processor;
      await native.preprocessImage(raster, width, height, 3, [{ steps, rescaleFactor: 1 / 255, mean, std }]);
      native.releaseRaster(raster);
    };
    const sides = { ocelli: () => cpuMs(once) };
    const peers = [];
    for (const kind of ['sharp', 'jimp']) {
      const peer = await startPeer(kind, { bytes: bytes.toString('base64') });
      peers.push(peer);
      if (peer.call) sides[kind] = () => peer.call('pictureToTensor');
    }
    // The compiler takes a few pictures to finish, on either side.
    for (let i = 0; i < 4; i++) for (const kind of ['ocelli', 'sharp']) await sides[kind]?.();
    const found = await byTurns(sides, name === '1024x768' ? repeat : Math.ceil(repeat / 3));
    await Promise.all(peers.map((peer) => peer.stop?.()));
    conditions.push(
      found.sharp
        ? judged(what, ratios(found.ocelli, found.sharp), { atMost })
        : unmeasured(what, `<= ${atMost}`, peers[0].why),
    );
    ms[name] = Object.fromEntries(Object.entries(found).map(([kind, list]) => [kind, told(list, 2)]));
  }
  return verdict(conditions, {
    unit: "of sharp's processor time, all threads counted",
    ms,
    bytes: Object.fromEntries(Object.entries(files).map(([name, [data]]) => [name, round(data?.length ?? 0, 0)])),
    load,
  });
}

export const rows = { 'clip-encode': clipEncode, 'ttft-llava': ttftLlava, 'picture-to-tensor': pictureToTensor };
