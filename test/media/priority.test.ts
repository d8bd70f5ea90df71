/** Threads that compute and that prepare pictures stand behind the event loop: with fewer cores than threads it would wait its turn. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './pictures';

/** Name and niceness (field 19 of stat, after the name in parentheses) of every thread once a picture was decoded, resized and asked about. */
const script = `
const { readdirSync, readFileSync } = require('node:fs');
const { LLM, decodeImage, resizeImage } = require(${JSON.stringify(join(root, 'dist'))});
const picture = ${JSON.stringify(join(root, 'models/demo/samples/red-ring.png'))};
decodeImage(picture).then(async (image) => {
  await resizeImage(image, 20, 20, 'bicubic');
  const llm = await LLM.load('demo', { threads: 2 });
  await llm.generate({ prompt: 'USER: <image>\\nHow many? ASSISTANT:', multiModalData: { image } }, { maxTokens: 2 });
  const threads = readdirSync('/proc/self/task').map((id) => {
    const [, name, rest] = /\\((.*)\\) (.*)/.exec(readFileSync('/proc/self/task/' + id + '/stat', 'utf8'));
    return { main: Number(id) === process.pid, name, nice: Number(rest.split(' ')[16]) };
  });
  await llm.dispose();
  console.log(JSON.stringify(threads));
});`;

test('the engine, image threads and decode workers are nicer, the event loop is not', () => {
  const threads = JSON.parse(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' })) as {
    main: boolean;
    name: string;
    nice: number;
  }[];
  const own = threads.find((thread) => thread.main)!.nice;
  const behind = Math.min(19, own + 5);
  for (const name of ['ocelli-engine', 'ocelli-pool']) {
    const found = threads.filter((thread) => thread.name === name);
    expect(found.map(({ nice }) => nice)).toEqual([Math.min(19, own + 2)]);
  }
  const image = threads.filter((thread) => thread.name === 'ocelli-image');
  expect(image.length).toBeGreaterThan(0);
  expect(image.map((thread) => thread.nice)).toEqual(image.map(() => behind));
  // Node names all its threads alike: the one worker that decoded is the one that is nicer.
  expect(threads.filter((thread) => thread.name !== 'ocelli-image' && thread.nice === behind)).toHaveLength(1);
});
