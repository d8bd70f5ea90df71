/** Every golden folder in eight and four bits. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { loadNative } from '../../dist/native';
import { bounds, missedBy } from '../goldens/quantized';
import { shared } from '../media/pictures';

const models = join(shared, 'golden/models');
const folders = readdirSync(models, { withFileTypes: true }).filter((f) => f.isDirectory());

test('each folder has its bounds', () => {
  expect(Object.keys(bounds).sort()).toEqual(folders.map((f) => f.name).sort());
});

const settings = folders.flatMap(({ name }) =>
  ['ref', ...loadNative().info().isas].flatMap((isa) =>
    (['int8', 'int4'] as const).map((q) => [name, isa, q] as const),
  ),
);

test.each(settings)('%s on %s in %s', async (folder, isa, quantization) => {
  expect(await missedBy(join(models, folder), isa, quantization)).toEqual([]);
});
