/** What the native pass does from decoded pixels to a normalised tensor; steps run in order on uint8, then normalise and tile. */
export type ResizeFilter = 'nearest' | 'box' | 'bilinear' | 'hamming' | 'bicubic' | 'lanczos';

export type PixelStep =
  | { op: 'pad'; width: number; height: number; left: number; top: number; fill: readonly [number, number, number] }
  | { op: 'resize'; width: number; height: number; filter: ResizeFilter }
  /** May exceed the picture: what lies outside is black. */
  | { op: 'crop'; left: number; top: number; width: number; height: number };

export interface RawPreprocessPlan {
  steps: readonly PixelStep[];
  /**
   * Cut into tiles: output [rows * cols, 3, repeat, height, width]; absent: [3, height, width]. They come row by row; with `square`, squares
   * of so many a side one after the other, and row by row inside them. `repeat`: each channel so many times.
   */
  tiles?: { width: number; height: number; cols: number; rows: number; square?: number; repeat?: number };
  /** 1 when the processor does not rescale. */
  rescaleFactor: number;
  /** Absent when the processor does not normalise. */
  mean?: readonly [number, number, number];
  std?: readonly [number, number, number];
  order?: 'pillow13' | 'before13';
  /** What becomes of a fourth channel; default 'drop', as for a decoded file. 'white': for pixels that the caller handed over with alpha. */
  alpha?: 'drop' | 'white';
}
