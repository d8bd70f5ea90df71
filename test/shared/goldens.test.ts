import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { loadNative } from '../../dist/native';
import { unexpectedFailures } from '../goldens/known-misses';
import { runFolder } from '../goldens/run';
import { shared } from '../media/pictures';

const models = join(shared, 'golden/models');
const backends = ['ref', ...loadNative().info().isas];

/** Families that no model of the library is for: they must be refused, and leave this list once there is one. */
const without: string[] = [];
const folders = readdirSync(models, { withFileTypes: true }).filter((f) => f.isDirectory());
const settings = folders.flatMap(({ name }) =>
  backends.flatMap((backend) => (['float32', 'bfloat16'] as const).map((dtype) => [name, backend, dtype] as const)),
);

test.each(settings)('%s on %s in %s', async (folder, backend, dtype) => {
  const report = await runFolder(join(models, folder), { backend, dtype, threads: 2 });
  expect(report.skipped !== undefined).toBe(without.includes(folder));
  expect(unexpectedFailures(report)).toEqual([]);
});
