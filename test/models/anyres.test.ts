/** Sizes of tiled pictures: counts of LLaVA-NeXT and LLaVA-OneVision, and the true maximum over all pictures. */
import fc from 'fast-check';
import { anyresIndex, anyresMap, anyresTokens, largestPicture, type Anyres } from '../../dist/models/anyres';

const next: Anyres = {
  pinpoints: [
    [336, 672],
    [672, 336],
    [672, 672],
    [1008, 336],
    [336, 1008],
  ],
  tile: 336,
  side: 24,
};
const sixths = [1, 2, 3, 4, 5, 6];
const oneVision: Anyres = {
  pinpoints: sixths.flatMap((h) => sixths.map((w) => [384 * h, 384 * w] as const)),
  tile: 384,
  side: 27,
  maxTiles: 9,
};

// Computed from the code of v0.6.3 with the rounding of today's; 1669 x 2560 is also asserted upstream.
test.each([
  [448, 448, 2928],
  [336, 336, 1176],
  [337, 337, 2928],
  [672, 672, 2928],
  [1669, 2560, 2144],
  [2560, 1669, 2160],
  [183, 488, 1458],
  [488, 183, 1488],
  [480, 640, 2340],
  [640, 480, 2352],
  [1080, 1920, 1948],
  [840, 700, 2544],
  [700, 840, 2536],
  [171, 152, 1128],
  [152, 171, 1272],
  [369, 328, 1276],
  [328, 369, 1272],
  [333, 296, 1128],
  [1008, 336, 2376],
  [336, 1008, 2328],
  [336, 672, 1752],
  [672, 336, 1776],
  [50, 2000, 722],
  [1, 336, 576],
  [336, 1, 600],
])('LLaVA-NeXT: %d high, %d wide: %d tokens', (height, width, tokens) => {
  expect(anyresTokens(height, width, next)).toBe(tokens);
});

// Where 24 * 55 / 110 and the like come out just below an integer, truncation loses two lines.
test.each([
  [176, 198, 1272],
  [55, 176, 1360],
  [88, 55, 984],
  [656, 205, 1392],
])('LLaVA-NeXT rounds before it truncates: %d high, %d wide: %d tokens', (height, width, tokens) => {
  expect(anyresTokens(height, width, next)).toBe(tokens);
});

test('truncation differs at ten sizes below 700', () => {
  const truncated = (height: number, width: number): number => {
    const { tileRows, tileCols } = anyresMap(height, width, next);
    let [rows, cols] = [24 * tileRows, 24 * tileCols];
    if (width / height > cols / rows) rows -= 2 * Math.floor((rows - Math.trunc(height * (cols / width))) / 2);
    else cols -= 2 * Math.floor((cols - Math.trunc(width * (rows / height))) / 2);
    return 576 + rows * cols + rows;
  };
  // All sizes were tried once; these are the factors of those that differ, and trying them alone takes a fiftieth of the time.
  const differing: number[][] = [];
  for (let height = 11; height < 700; height++)
    for (let width = 11; width < 700; width++) {
      if (height % 11 !== 0 && height % 41 !== 0) continue;
      if (width % 11 !== 0 && width % 41 !== 0) continue;
      if (truncated(height, width) !== anyresTokens(height, width, next)) differing.push([height, width]);
    }
  expect(differing).toHaveLength(10);
});

test('LLaVA-OneVision scales a map down by whole parts: 98 columns over sqrt(162 * 98 / 6561) are 62, though the quotient rounds to 63', () => {
  expect(anyresTokens(5605, 3395, oneVision)).toBe(7281);
});

describe('the largest picture', () => {
  test.each([
    ['LLaVA-NeXT', next, 2928],
    ['LLaVA-OneVision, whose tall pictures have more lines', oneVision, 8765],
    ['one pinpoint of a single tile', { ...next, pinpoints: [[336, 336]] } as Anyres, 576 + 576 + 24],
    ['high and narrow', { ...next, pinpoints: [[3360, 336]] } as Anyres, 576 + 240 * 24 + 240],
  ])('%s', (_, anyres, tokens) => {
    const { height, width, tokens: found } = largestPicture(anyres);
    expect(found).toBe(tokens);
    expect(anyresTokens(height, width, anyres)).toBe(tokens);
  });

  test('is not a fixed one: 448 x 448 has 3699 of 8765 tokens, 1153 x 944 has them, and not when it lies down', () => {
    expect(anyresTokens(448, 448, oneVision)).toBe(3699);
    expect(anyresTokens(1153, 944, oneVision)).toBe(8765);
    expect(anyresTokens(944, 1153, oneVision)).toBe(8748);
  });

  test('needs at least one pinpoint', () => {
    expect(() => largestPicture({ ...next, pinpoints: [] })).toThrow(expect.objectContaining({ code: 'ERR_CONFIG' }));
  });
});

const pinpoints = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 })), {
  minLength: 1,
  maxLength: 6,
  selector: String,
});
const anyresSettings = fc.record({
  tile: fc.constantFrom(14, 56, 336),
  side: fc.integer({ min: 1, max: 6 }),
  points: pinpoints,
  maxTiles: fc.option(fc.integer({ min: 1, max: 9 }), { nil: undefined }),
});

function anyresOf({
  tile,
  side,
  points,
  maxTiles,
}: {
  tile: number;
  side: number;
  points: [number, number][];
  maxTiles: number | undefined;
}): Anyres {
  const pinpoints = points.map(([h, w]) => [h * tile, w * tile] as const);
  return { pinpoints, tile, side, ...(maxTiles === undefined ? {} : { maxTiles }) };
}

test('no picture has more tokens than the largest one', () => {
  const size = fc.integer({ min: 1, max: 4000 });
  fc.assert(
    fc.property(anyresSettings, fc.array(fc.tuple(size, size), { minLength: 20, maxLength: 20 }), (settings, sizes) => {
      const anyres = anyresOf(settings);
      const most = largestPicture(anyres).tokens;
      return sizes.every(([h, w]) => anyresTokens(h, w, anyres) <= most);
    }),
    { numRuns: 100 },
  );
});

test('in a small world the largest one is what trying every picture finds', () => {
  fc.assert(
    fc.property(anyresSettings, (settings) => {
      const anyres = anyresOf({ ...settings, tile: 6, side: Math.min(settings.side, 3) });
      const limit = 2 * Math.max(...anyres.pinpoints.flat());
      let most = 0;
      for (let h = 1; h <= limit; h++)
        for (let w = 1; w <= limit; w++) most = Math.max(most, anyresTokens(h, w, anyres));
      expect(largestPicture(anyres).tokens).toBe(most);
    }),
    { numRuns: 30 },
  );
});

test('the index names each feature of the map once, line by line, then the newline', () => {
  // Two tiles beside each other of 2 x 2 features, one column cut on each side.
  const map = { tileRows: 1, tileCols: 2, top: 0, left: 1, rows: 2, cols: 2 };
  expect([...anyresIndex(map, { pinpoints: [], tile: 1, side: 2 }, 12)]).toEqual([0, 1, 2, 3, 5, 8, 12, 7, 10, 12]);
  // Nothing left but newlines, or nothing at all.
  const [narrow, flat] = [anyresMap(336, 1, next), anyresMap(1, 336, next)];
  expect([
    narrow.cols,
    anyresIndex(narrow, next, 9999)
      .slice(576)
      .every((i) => i === 9999),
  ]).toEqual([0, true]);
  expect([flat.rows, anyresIndex(flat, next, 9999)]).toEqual([0, Int32Array.from({ length: 576 }, (_, i) => i)]);
});
