/** Token tables of the reference: sizes to tiles, resized sides and tokens, every row. */
import { anyresTokens, type Anyres } from '../../dist/models/anyres';
import { ImageProcessor } from '../../dist/multimodal';
import { panAndScan } from '../../dist/multimodal/processors/gemma3';
import { gotOcr2Grid, gotOcr2Views } from '../../dist/multimodal/processors/got-ocr2';
import { idefics3Grid } from '../../dist/multimodal/processors/idefics3';
import { pixtralSize } from '../../dist/multimodal/processors/pixtral';
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

const processorOf = (name: string, type: string, more: object = {}) =>
  ImageProcessor.fromConfig({ ...tables[name]!.settings, ...more, image_processor_type: type }).config({});

test.each([
  ['idefics3', 'Idefics3ImageProcessor'],
  ['smolvlm_256m', 'SmolVLMImageProcessor'],
])('%s', (name, type) => {
  const { image_seq_len: each, ...fields } = tables[name]!.settings;
  const config = ImageProcessor.fromConfig({ ...fields, image_processor_type: type }).config({});
  for (const { height, width, rows, cols, image_tokens: tokens } of rowsOf(name)) {
    const grid = idefics3Grid(height!, width!, config);
    const found = (grid.rows * grid.cols + 1) * (each as number);
    expect({ height, width, ...grid, tokens: found }).toEqual({ height, width, rows, cols, tokens });
  }
});

test('internvl', () => {
  const size = { height: 448, width: 448 };
  const config = processorOf('internvl', 'GotOcr2ImageProcessor', { size, crop_to_patches: true });
  for (const { height, width, rows, columns, tiles } of rowsOf('internvl')) {
    const grid = gotOcr2Grid(height!, width!, config);
    expect({ height, width, grid, tiles: gotOcr2Views(grid) }).toEqual({ height, width, grid: [rows, columns], tiles });
  }
});

test.each(['pixtral', 'mistral3'])('%s', (name) => {
  const edge = tables[name]!.settings.longest_edge;
  const config = processorOf(name, 'PixtralImageProcessor', { size: { longest_edge: edge } });
  for (const { height, width, resized_height: h, resized_width: w } of rowsOf(name)) {
    // A side of nothing is a picture that cannot be used.
    if (h === 0 || w === 0) expect(() => pixtralSize(height!, width!, config)).toThrow(/longer side/);
    else expect({ height, width, size: pixtralSize(height!, width!, config) }).toEqual({ height, width, size: [h, w] });
  }
});

test('gemma3_pan_and_scan', () => {
  const config = processorOf('gemma3_pan_and_scan', 'Gemma3ImageProcessor', {
    do_pan_and_scan: true,
    pan_and_scan_min_ratio_to_activate: 1.2,
  });
  for (const { height, width, crops } of rowsOf('gemma3_pan_and_scan'))
    expect({ height, width, crops: panAndScan(height!, width!, config).length }).toEqual({ height, width, crops });
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
