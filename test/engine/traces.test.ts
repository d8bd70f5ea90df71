// The scheduler by hand-written traces: test/engine/traces has them as text, native/test/replay.h says how they read, and
// the driver that set-up has built replays them.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(__dirname, '../../..');
const folder = join(root, 'test/engine/traces');
const titles = readdirSync(folder).flatMap((file) =>
  [...readFileSync(join(folder, file), 'utf8').matchAll(/^trace (.+)$/gm)].map(([, title]) => [
    file.replace('.trace', ''),
    title as string,
  ]),
);
const { status, stdout } = spawnSync(join(root, 'out/native/scheduler_test'), { encoding: 'utf8' });

test.each(titles)('%s: %s', (_file, title) => {
  expect(stdout.split('\n')).toContain(`ok ${title}`);
});

test('nothing else is replayed, and what can never run is refused', () => {
  expect(stdout.match(/^ok .+$/gm)).toHaveLength(titles.length);
  expect({ status, failures: stdout.match(/^FAILED .+$/gm) }).toEqual({ status: 0, failures: null });
});
