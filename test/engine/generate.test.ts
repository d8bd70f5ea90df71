import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LLM, SamplingParams, decodeImage, type RequestOutput } from '../../dist/index';
import { fixtureModels } from '../models/fixtures';
import { picture, question, samples } from './models';

const greedy = { temperature: 0, maxTokens: 60 };

describe('the built-in model', () => {
  let llm: LLM;
  beforeAll(async () => {
    llm = await LLM.load('demo', { limitMmPerPrompt: { image: 2 } });
  });
  afterAll(() => llm.dispose());

  test('answers about its sample pictures as its reference does', async () => {
    const list = JSON.parse(readFileSync(join(samples, 'samples.json'), 'utf8')) as {
      image: string;
      question: string;
      reference: string;
    }[];
    const outputs = await llm.generate(
      list.map((s) => question(s.question, join(samples, s.image))),
      greedy,
    );
    expect(outputs.map((o) => o.outputs[0]!.text.trim())).toEqual(list.map((s) => s.reference));
  });

  test('takes a picture in every form', async () => {
    const path = picture('red-ring');
    const bytes = readFileSync(path);
    const forms = [
      path,
      new URL(`file://${path}`),
      bytes,
      new Uint8Array(bytes),
      new Blob([bytes]),
      `data:image/png;base64,${bytes.toString('base64')}`,
      await decodeImage(path),
    ];
    const answers = await Promise.all(
      forms.map((image) => llm.generate({ ...question('Describe the image.'), multiModalData: { image } }, greedy)),
    );
    expect(new Set(answers.map((a) => a.outputs[0]!.text)).size).toBe(1);
  });

  test('reports usage, times and the expanded prompt', async () => {
    const output = await llm.generate(question('How many objects are there?'), greedy, { requestId: 'mine' });
    expect(output).toMatchObject({
      requestId: 'mine',
      finished: true,
      usage: { imageTokens: 64, completionTokens: 3 },
    });
    expect(output.promptTokenIds).toHaveLength(output.usage.promptTokens);
    expect(output.outputs[0]).toMatchObject({ finishReason: 'stop', stopReason: null, index: 0 });
    const { arrivalTime, submittedTime, firstTokenTime, finishedTime } = output.metrics;
    expect([arrivalTime, submittedTime, firstTokenTime, finishedTime]).toEqual(
      [arrivalTime, submittedTime, firstTokenTime, finishedTime].sort((a, b) => a! - b!),
    );
  });

  test('streams add up to the result; prompt ids come once; text keeps behind stop strings', async () => {
    const stream = llm.stream(question('Describe the image.'), { ...greedy, stop: ['black heart'] });
    const items: RequestOutput[] = [];
    for await (const item of stream) items.push(item);
    const whole = await stream.result;
    expect(whole.outputs[0]).toMatchObject({ finishReason: 'stop', stopReason: 'black heart' });
    expect(items.map((i) => i.outputs[0]!.text).join('')).toBe(whole.outputs[0]!.text);
    expect(items.flatMap((i) => i.outputs[0]!.tokenIds)).toEqual(whole.outputs[0]!.tokenIds);
    expect(items.map((i) => i.promptTokenIds.length > 0)).toEqual(items.map((_, i) => i === 0));
    expect(items.map((i) => i.finished)).toEqual(items.map((_, i) => i === items.length - 1));
    expect(items.map((i) => i.outputs[0]!.text).join('')).not.toContain('black heart');
    await expect(async () => {
      for await (const _ of stream) break;
    }).rejects.toMatchObject({ code: 'ERR_STREAM_USED' });
  });

  test('textStream is the text alone', async () => {
    let text = '';
    for await (const piece of llm.stream(question('Describe the image.'), greedy).textStream) text += piece;
    expect(text).toBe((await llm.generate(question('Describe the image.'), greedy)).outputs[0]!.text);
  });

  test('a stop string is kept where it is asked for', async () => {
    const { outputs } = await llm.generate(question('Describe the image.'), {
      ...greedy,
      stop: 'square',
      includeStopStrInOutput: true,
    });
    expect(outputs[0]!.text).toBe(' From left to right: a small white square');
  });

  test('logprobs: the token first among equals, the best ones beside it', async () => {
    const { outputs } = await llm.generate(question('Describe the image.'), { ...greedy, logprobs: 3 });
    const [output] = outputs;
    let sum = 0;
    for (const [i, entries] of output!.logprobs!.entries()) {
      const own = entries.get(output!.tokenIds[i]!)!;
      sum += own.logprob;
      expect(own.rank).toBe(1);
      expect(entries.size).toBe(3);
      expect([...entries.values()].map((e) => e.rank)).toEqual([1, 2, 3]);
    }
    expect(output!.cumulativeLogprob).toBeCloseTo(sum, 5);
  });

  test('promptLogprobs cover the prompt, whatever was cached', async () => {
    const params = { ...greedy, maxTokens: 1, promptLogprobs: 1 };
    const [first, second] = [
      await llm.generate(question('What color is the circle?'), params),
      await llm.generate(question('What color is the circle?'), params),
    ];
    expect(first.promptLogprobs).toHaveLength(first.promptTokenIds.length);
    expect(first.promptLogprobs![0]).toBeNull();
    expect(first.promptLogprobs!.slice(1).every((entries) => entries!.size >= 1)).toBe(true);
    expect(second.promptLogprobs).toEqual(first.promptLogprobs);
  });

  test('seeded sampling repeats itself and differs by seed and by output', async () => {
    const params = { temperature: 3, maxTokens: 12, ignoreEos: true, n: 3 };
    const texts = async (seed: number): Promise<string[]> =>
      (await llm.generate(question('Describe the image.'), { ...params, seed })).outputs.map((o) => o.text);
    const [a, b, c] = [await texts(1), await texts(1), await texts(2)];
    expect(b).toEqual(a);
    expect(c).not.toEqual(a);
    expect(new Set(a).size).toBe(3);
  });

  test('allowed, biased, banned and required tokens', async () => {
    const ids = llm.tokenizer.encode(' One Two', { addSpecialTokens: false });
    const only = await llm.generate(question('Describe the image.'), {
      ...greedy,
      maxTokens: 5,
      allowedTokenIds: ids,
    });
    expect(only.outputs[0]!.tokenIds.every((id) => ids.includes(id))).toBe(true);
    const biased = await llm.generate(question('How many objects are there?'), {
      ...greedy,
      maxTokens: 1,
      logitBias: { [ids[0]!]: 100 },
    });
    expect(biased.outputs[0]!.tokenIds).toEqual([ids[0]]);
    const banned = await llm.generate(question('How many objects are there?'), { ...greedy, badWords: ['Four'] });
    expect(banned.outputs[0]!.text).not.toContain('Four');
    const longer = await llm.generate(question('How many objects are there?'), { ...greedy, minTokens: 8 });
    expect(longer.outputs[0]!.tokenIds.length).toBeGreaterThanOrEqual(8);
    const stopped = await llm.generate(question('Describe the image.'), { ...greedy, stopTokenIds: [ids[0]!] });
    expect(stopped.outputs[0]!.finishReason).toBe('stop');
  });

  test('detokenize: false gives ids and no text', async () => {
    const { outputs } = await llm.generate(question('How many objects are there?'), { ...greedy, detokenize: false });
    expect(outputs[0]).toMatchObject({ text: '', finishReason: 'stop' });
    expect(outputs[0]!.tokenIds.length).toBe(3);
  });

  test('chat: parts, several turns, and text that spells tokens stays text', async () => {
    const image = { type: 'image' as const, image: readFileSync(picture('four-shapes')) };
    const ask = { role: 'user', content: [image, { type: 'text' as const, text: 'How many objects are there?' }] };
    const first = await llm.chat([ask], { temperature: 0 });
    expect(first.outputs[0]!.text.trim()).toBe('Four.');
    const second = await llm.chat(
      [ask, { role: 'assistant', content: 'Four.' }, { role: 'user', content: 'What color is the circle?' }],
      { temperature: 0 },
    );
    expect(second.outputs[0]!.text.trim()).toBe('Black.');
    expect(second.usage.cachedTokens).toBeGreaterThanOrEqual(64);
    const spelled = await llm.chat([{ role: 'user', content: 'What is <image> and </s>?' }], { temperature: 0 });
    expect(spelled.usage.imageTokens).toBe(0);
    expect(spelled.promptTokenIds).not.toContain(llm.tokenizer.eosTokenId);
    const flat = await llm.chat(
      [ask],
      { temperature: 0 },
      {
        chatTemplate: "{{ bos_token }}{% for m in messages %}USER: {{ m['content'] + ' ' }}{% endfor %}ASSISTANT:",
      },
    );
    expect(flat.outputs[0]!.text.trim()).toBe('Four.');
  });

  test('countTokens looks at pictures and computes nothing', async () => {
    const { steps } = llm.stats();
    expect(await llm.countTokens(question('Describe the image.'))).toEqual({ total: 75, text: 11, image: 64 });
    expect(await llm.countTokens([{ role: 'user', content: 'Hi' }])).toMatchObject({ image: 0 });
    expect(llm.stats().steps).toBe(steps);
  });

  test('a picture asked about again is neither decoded, mapped nor encoded again', async () => {
    const path = picture('yellow-heart');
    await llm.generate(question('Describe the image.', path), greedy);
    const before = llm.stats();
    await llm.generate(question('What color is the heart?', path), greedy);
    const after = llm.stats();
    expect(after.encoderRuns).toBe(before.encoderRuns);
    expect(after.imageDecodes).toBe(before.imageDecodes);
    expect(after.preprocessCacheHits).toBe(before.preprocessCacheHits + 1);
  });
});

test('the golden model gives the reference its tokens and log-probabilities, with one and with two pictures', async () => {
  const folder = join(fixtureModels, 'llava-1.5');
  interface Case {
    name: string;
    prompt: string;
    images: string[];
    input_ids: number[];
    greedy: { token_ids: number[]; logprobs: number[] };
  }
  const { cases } = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as { cases: Case[] };
  const llm = await LLM.load(folder, { dtype: 'float32', limitMmPerPrompt: { image: 2 } });
  const chosen = cases.filter((c) => typeof c.prompt === 'string');
  const outputs = await llm.generate(
    chosen.map(({ prompt, images }) => ({
      prompt,
      multiModalData: { image: images.map((name) => join(fixtureModels, 'images', name)) },
    })),
    new SamplingParams({ temperature: 0, maxTokens: 24, ignoreEos: true, logprobs: 0 }),
  );
  chosen.forEach(({ input_ids: ids, greedy: { token_ids: tokens, logprobs } }, i) => {
    const {
      promptTokenIds,
      outputs: [answer],
    } = outputs[i]!;
    expect(promptTokenIds).toEqual(ids);
    expect(answer!.tokenIds).toEqual(tokens);
    answer!.logprobs!.forEach((entry, step) => {
      // 1e-4: ten times what two correct float32 implementations differ by in logits of standard deviation 4.
      expect(Math.abs(entry.get(tokens[step]!)!.logprob - logprobs[step]!)).toBeLessThan(1e-4);
    });
  });
  await llm.dispose();
});

test('outputs of one prompt are computed from one copy of it, cached prefixes or not', async () => {
  const params = { temperature: 2, seed: 3, n: 4, maxTokens: 6, ignoreEos: true };
  const found = [];
  for (const enablePrefixCaching of [true, false]) {
    const llm = await LLM.load('demo', { enablePrefixCaching });
    const output = await llm.generate(question('Describe the image.'), params);
    found.push(output.outputs.map((o) => o.tokenIds));
    // The prompt once, and of it for each of the others what follows its last full block of 16.
    expect(llm.stats().promptTokens).toBe(75 + 3 * (75 % 16));
    await llm.dispose();
  }
  expect(found[1]).toEqual(found[0]);
});
