// What the peers' pictures share: a short side of 336, the middle of it, float32 by channels.
export const side = 336;
const mean = [0.48145466, 0.4578275, 0.40821073];
const std = [0.26862954, 0.26130258, 0.27577711];

export function resizedTo(width, height) {
  return width < height ? [side, Math.floor((side * height) / width)] : [Math.floor((side * width) / height), side];
}

/** The middle of `width` x `height` interleaved pixels, normalised. */
export function toTensor(pixels, channels, width, height) {
  const left = (width - side) >> 1;
  const top = (height - side) >> 1;
  const out = new Float32Array(3 * side * side);
  for (let c = 0; c < 3; c++) {
    const factor = 1 / (255 * std[c]);
    const shift = -mean[c] / std[c];
    let to = c * side * side;
    for (let y = 0; y < side; y++) {
      let from = ((y + top) * width + left) * channels + c;
      for (let x = 0; x < side; x++, from += channels) out[to++] = pixels[from] * factor + shift;
    }
  }
  return out;
}

/** ms of processor time that `work` takes in this process, all its threads. */
export async function cpuMs(work) {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
