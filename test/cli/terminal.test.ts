/** `ocelli chat` under a real terminal: streaming, the conversation, Ctrl-C. */
import { rmSync } from 'node:fs';
import { circles, ctrlC, ctrlD, howMany, slowModel, Terminal } from './run';

const slow = slowModel();
afterAll(() => rmSync(slow.folder, { recursive: true }));
/** Whatever random weights say first, behind the status line that it replaces. */
const streaming = /reading the question(?:\x1b\[22m)?\r\x1b\[K[^\x1b]{12}/;
const prompt = /\x1b\[\d+G|> $/;

let terminal: Terminal;
afterEach(() => terminal.kill());

test('one question: load progress, the answer, its timing', async () => {
  terminal = new Terminal(['chat', circles, howMany]);
  expect(await terminal.ended).toBe(0);
  expect(terminal.output).toContain('Four.');
  expect(terminal.output).toMatch(/tokens read \(64 of pictures\), \d+ written/);
});

test('the answer is streamed, and Ctrl-C stops it with 130', async () => {
  terminal = new Terminal(['chat', circles, 'Describe the image.', ...slow.flags]);
  await terminal.sees(streaming);
  terminal.type(ctrlC);
  expect(await terminal.ended).toBe(130);
  expect(terminal.output).toContain('; stopped');
});

test('a conversation: Ctrl-C stops the answer, the next one leaves with 130', async () => {
  terminal = new Terminal(['chat', circles, ...slow.flags]);
  await terminal.sees(prompt);
  terminal.type('Describe the image.\r');
  const begun = await terminal.sees(streaming);
  terminal.type(ctrlC);
  const stopped = await terminal.sees(/; stopped/, begun);
  await terminal.sees(prompt, stopped);
  const pressed = performance.now();
  terminal.type(ctrlC);
  expect(await terminal.ended).toBe(130);
  expect(performance.now() - pressed).toBeLessThan(1000);
});

test('a conversation goes on after Ctrl-C, drops a half-written line, and ends with Ctrl-D', async () => {
  terminal = new Terminal(['chat', circles, '--max-tokens', '20']);
  let at = await terminal.sees(prompt);
  terminal.type(`What nonsense${ctrlC}`);
  terminal.type(`${howMany}\r`);
  at = await terminal.sees(/Four\./, at);
  at = await terminal.sees(prompt, at);
  terminal.type('/nonsense\r');
  await terminal.sees(/Expected \/image PATH/, at);
  terminal.type(ctrlD);
  expect(await terminal.ended).toBe(0);
});

test('Ctrl-C twice at once', async () => {
  terminal = new Terminal(['chat', circles, 'Describe the image.', ...slow.flags]);
  await terminal.sees(streaming);
  const pressed = performance.now();
  terminal.type(ctrlC + ctrlC);
  expect(await terminal.ended).toBe(130);
  expect(performance.now() - pressed).toBeLessThan(1000);
});

test('Ctrl-C while the model is loading', async () => {
  terminal = new Terminal(['chat', circles, howMany, ...slow.flags]);
  await terminal.sees(/packing weights/);
  terminal.type(ctrlC);
  expect(await terminal.ended).toBe(130);
});
