/** Token tables of the reference: sizes to tiles, resized sides and tokens, every row. */
import { anyresTokens, type Anyres } from '../../dist/models/anyres';
import { selectBestResolution } from '../../dist/multimodal/processors/llava-next';
import { smartResize } from '../../dist/multimodal/processors/qwen2-vl';
import { readJson, shared } from '../media/pictures';

interface Table {
  settings: Record<string, unknown>;
  columns: string[];
  rows: (number | string | null)[][];
}

const tables = readJson<Record<string, Table>>(shared, 'golden', 'preprocess', 'tokens.json');

/** Rows as objects; there are many of them. */
function rowsOf(name: string): Record<string, number>[] {
  const { columns, rows } = tables[name]!;
  expect(rows.length).toBeGreaterThanOrEqual(200);
  return rows.map((row) => Object.fromEntries(columns.map((column, i) => [column, row[i] as number])));
}

test.each<[string, Omit<Anyres, 'pinpoints'>]>([
  ['llava_next', { tile: 336, side: 24 }],
  ['llava_onevision', { tile: 384, side: 27, maxTiles: 9 }],
])('%s', (name, settings) => {
  const pinpoints = tables[name]!.settings.image_grid_pinpoints as [number, number][];
  const anyres: Anyres = { ...settings, pinpoints };
  for (const row of rowsOf(name)) {
    const [height, width] = [row.height!, row.width!];
    const [bestHeight, bestWidth] = selectBestResolution(height, width, pinpoints);
    const tiles = 1 + (bestHeight / settings.tile) * (bestWidth / settings.tile);
    expect({ height, width, bestHeight, bestWidth, tiles, tokens: anyresTokens(height, width, anyres) }).toEqual({
      height,
      width,
      bestHeight: row.best_height,
      bestWidth: row.best_width,
      tiles: row.tiles,
      tokens: row.tokens,
    });
  }
});

test.each(['qwen2_vl', 'qwen2_vl_small', 'qwen3_vl'])('%s', (name) => {
  const { factor, min_pixels: min, max_pixels: max } = tables[name]!.settings as Record<string, number>;
  for (const row of rowsOf(name)) {
    const [height, width] = [row.height!, row.width!];
    // A row without numbers is a picture that the reference refuses.
    if (typeof row.tokens !== 'number') {
      expect(() => smartResize(height, width, factor!, min!, max!)).toThrow(
        expect.objectContaining({ code: 'ERR_IMAGE_ASPECT' }),
      );
      continue;
    }
    const [h, w] = smartResize(height, width, factor!, min!, max!);
    expect({ height, width, h, w, tokens: (h * w) / factor! ** 2 }).toEqual({
      height,
      width,
      h: row.resized_height,
      w: row.resized_width,
      tokens: row.tokens,
    });
  }
});
