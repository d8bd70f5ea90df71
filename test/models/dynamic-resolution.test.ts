/** The largest picture of a model that keeps resolutions: against all pictures of a small world. */
import fc from 'fast-check';
import { largestPicture } from '../../dist/models/dynamic-resolution';
import { smartResize } from '../../dist/multimodal/processors/qwen2-vl';

/** Most rows x columns by trying every size up to `side`, and twenty times as wide. */
function bruteForce(factor: number, min: number, max: number, side = 50): number {
  let best = 0;
  for (let height = 1; height <= side; height++) {
    for (let width = height; width <= Math.min(200 * height, 20 * side); width++) {
      const [h, w] = smartResize(height, width, factor, min, max);
      best = Math.max(best, (h * w) / factor ** 2);
    }
  }
  return best;
}

test('is what trying every picture finds', () => {
  const settings = fc.record({
    factor: fc.integer({ min: 1, max: 4 }),
    blocks: fc.integer({ min: 1, max: 250 }),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  fc.assert(
    fc.property(settings, ({ factor, blocks, share }) => {
      const max = factor ** 2 * blocks;
      const min = 1 + Math.floor(share * (max - 1));
      const { height, width, rows, cols } = largestPicture(factor, min, max);
      expect(smartResize(height, width, factor, min, max)).toEqual([rows * factor, cols * factor]);
      expect(rows * cols).toBe(bruteForce(factor, min, max));
    }),
    { numRuns: 8 },
  );
});

test.each([
  // The family's default: the square.
  [3136, 12845056, 128 * 128],
  [200704, 1003520, 1280],
  // A picture 200 times as wide as high stays one patch high: 48 of them where maxPixels would leave 12.
  [3136, 9408, 48],
  // Enlarged to at least minPixels, both sides rounded up.
  [200704, 200704, 454],
])('minPixels %d, maxPixels %d: %d tokens', (min, max, tokens) => {
  const { rows, cols } = largestPicture(28, min, max);
  expect(rows * cols).toBe(tokens);
});
