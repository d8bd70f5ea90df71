/** Which encoder an item runs through and the sizes that bind its symbols. */
import { OcelliError } from '../errors';
import type { Tensor } from '../media/tensor';
import type { InputSpecs, TracedEncoder, TracedModel } from '../nn';

/** An item's place among the model's programs (0 is the text's; -1: features are given) and its sizes. */
export interface EngineItemSize {
  program: number;
  symbols: Record<string, number>;
}

/** Programs in the engine's order: the text's, then one for each encoder that has one. */
export function programTexts(traced: TracedModel): string[] {
  return [traced.text, ...traced.encoders.flatMap((e) => e.program ?? [])].map((p) => JSON.stringify(p));
}

/** The encoder whose form the item's tensors fill. */
export function encoderOf(
  traced: TracedModel,
  modality: string,
  tensors: Readonly<Record<string, Tensor>>,
): { encoder: TracedEncoder; program: number } {
  let program = 0;
  for (const encoder of traced.encoders) {
    if (encoder.program) program++;
    if (encoder.modality !== modality || !encoder.form.every((name) => name in tensors)) continue;
    return { encoder, program: encoder.program ? program : -1 };
  }
  const forms = traced.encoders.filter((e) => e.modality === modality).map((e) => `[${e.form.join(', ')}]`);
  throw new OcelliError(
    'ERR_MM_INPUTS',
    `Expected the tensors of ${forms.join(' or ') || 'some form'} from the ${modality} mapper but received [${Object.keys(tensors).join(', ')}]`,
    { hint: 'Mappers give the keywords that static inputs declares; static prepare may add index arrays.' },
  );
}

/** Symbols bound by the shapes of an item's tensors; ERR_MM_INPUTS where a shape or a dtype does not fit its declaration. */
export function bindSymbols(
  specs: InputSpecs,
  form: readonly string[],
  tensors: Readonly<Record<string, Tensor>>,
): Record<string, number> {
  const symbols: Record<string, number> = {};
  for (const name of form) {
    const { shape } = specs[name]!;
    const tensor = tensors[name]!;
    const fits =
      tensor.shape.length === shape.length &&
      shape.every((wanted, i) => {
        const size = tensor.shape[i]!;
        if (typeof wanted === 'number') return size === wanted;
        symbols[wanted] ??= size;
        return symbols[wanted] === size;
      });
    if (!fits) {
      throw new OcelliError(
        'ERR_MM_INPUTS',
        `Expected [${shape.join(', ')}] for ${name} but received ${tensor.dtype}[${tensor.shape.join(', ')}]`,
        { details: { input: name, shape: [...tensor.shape], symbols } },
      );
    }
  }
  return symbols;
}
