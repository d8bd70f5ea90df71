/** Threads that prepare pictures stand behind the event loop: with fewer cores than threads it would wait its turn. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './pictures';

/** Name and niceness (field 19 of stat, after the name in parentheses) of every thread once a picture was decoded and resized. */
const script = `
const { readdirSync, readFileSync } = require('node:fs');
const { decodeImage, resizeImage } = require(${JSON.stringify(join(root, 'dist'))});
decodeImage(${JSON.stringify(join(root, 'models/demo/samples/red-ring.png'))}).then(async (image) => {
  await resizeImage(image, 20, 20, 'bicubic');
  const threads = readdirSync('/proc/self/task').map((id) => {
    const [, name, rest] = /\\((.*)\\) (.*)/.exec(readFileSync('/proc/self/task/' + id + '/stat', 'utf8'));
    return { main: Number(id) === process.pid, name, nice: Number(rest.split(' ')[16]) };
  });
  console.log(JSON.stringify(threads));
});`;

test('image threads and decode workers are nicer, the event loop is not', () => {
  const threads = JSON.parse(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' })) as {
    main: boolean;
    name: string;
    nice: number;
  }[];
  const own = threads.find((thread) => thread.main)!.nice;
  const behind = Math.min(19, own + 5);
  const image = threads.filter((thread) => thread.name === 'ocelli-image');
  expect(image.length).toBeGreaterThan(0);
  expect(image.map((thread) => thread.nice)).toEqual(image.map(() => behind));
  // Node names all its threads alike: the one worker that decoded is the one that is nicer.
  expect(threads.filter((thread) => thread.name !== 'ocelli-image' && thread.nice === behind)).toHaveLength(1);
});
