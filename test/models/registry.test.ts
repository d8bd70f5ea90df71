import { resolveModelClass, knownArchitectures, registerModel, supportsMultiModal } from '../../dist/models/registry';
import { Embedding, Module, type ForwardInputs, type Value } from '../../dist/nn';

class Own extends Module {
  readonly embed = new Embedding(4, 2);
  forward({ inputIds }: ForwardInputs): Value {
    return this.embed.forward(inputIds);
  }
}

test('built-in architectures', async () => {
  expect(knownArchitectures()).toEqual(expect.arrayContaining(['LlamaForCausalLM', 'LlavaForConditionalGeneration']));
  const llava = await resolveModelClass(['LlavaForConditionalGeneration']);
  expect(llava.supportsMultiModal).toBe(true);
  expect((await resolveModelClass(['Nothing', 'LlamaForCausalLM'])).supportsMultiModal).toBe(false);
});

test('an unknown architecture lists the known ones', async () => {
  await expect(resolveModelClass(['NopeForCausalLM'])).rejects.toMatchObject({
    code: 'ERR_UNKNOWN_ARCHITECTURE',
    message: expect.stringMatching(/LlamaForCausalLM.*NopeForCausalLM/),
  });
});

test.each([
  ['Gemma3nForConditionalGeneration', 'Gemma3ForConditionalGeneration'],
  ['Qwen2_5VLForConditionalGeneration', 'Qwen2_5_VLForConditionalGeneration'],
])('%s comes nearest to %s', async (name, nearest) => {
  await expect(resolveModelClass([name])).rejects.toMatchObject({
    code: 'ERR_UNKNOWN_ARCHITECTURE',
    hint: expect.stringContaining(nearest),
    details: { nearest },
  });
});

test('what resembles nothing is compared with nothing', async () => {
  await expect(resolveModelClass(['Zzz'])).rejects.toMatchObject({ details: { architectures: ['Zzz'] } });
  await expect(resolveModelClass(['Zzz'])).rejects.not.toMatchObject({ details: { nearest: expect.anything() } });
});

test('a class, a lazy import, and hooks in one call', async () => {
  registerModel('OwnForCausalLM', Own);
  expect((await resolveModelClass(['OwnForCausalLM'])).modelClass).toBe(Own);
  class Lazy extends Own {}
  let imports = 0;
  registerModel('LazyForCausalLM', () => (imports++, Promise.resolve(Lazy)), {
    imageInputMapper: true,
    maxImageTokens: 4,
  });
  expect(imports).toBe(0);
  for (let i = 0; i < 2; i++) {
    expect(await resolveModelClass(['LazyForCausalLM'])).toMatchObject({ modelClass: Lazy, supportsMultiModal: true });
  }
  expect(imports).toBe(1);
  expect(supportsMultiModal(Own)).toBe(false);
});

test.each([
  ['', Own],
  ['X', {}],
])('a bad registration of %p', (name, model) => {
  expect(() => registerModel(name, model as never)).toThrow(expect.objectContaining({ code: 'ERR_REGISTRY' }));
});
