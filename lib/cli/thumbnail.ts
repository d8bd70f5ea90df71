/** A picture on a terminal: two pixels in each character, as an upper half block on a coloured ground. */
import { decodeImage, resizeImage } from '../media';

/** Lines of `columns` characters, or none where the terminal lacks the colours. */
export async function thumbnail(path: string, columns: number): Promise<string[]> {
  if (!process.stdout.isTTY || !process.stdout.hasColors(2 ** 24)) return [];
  const image = await decodeImage(path);
  const rows = Math.max(2, 2 * Math.round((columns * image.height) / image.width / 2));
  const { data } = await resizeImage(image, columns, rows, 'box');
  const colour = (x: number, y: number): string =>
    data.subarray((y * columns + x) * 3, (y * columns + x) * 3 + 3).join(';');
  const lines: string[] = [];
  for (let y = 0; y < rows; y += 2) {
    let line = '';
    for (let x = 0; x < columns; x++) line += `\x1b[38;2;${colour(x, y)};48;2;${colour(x, y + 1)}m\u2580`;
    lines.push(`${line}\x1b[0m`);
  }
  return lines;
}
