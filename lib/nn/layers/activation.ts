import { OcelliError } from '../../errors';
import type { Activation } from '../ops';

const byName: Readonly<Record<string, Activation>> = {
  gelu: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  quick_gelu: 'quick_gelu',
  silu: 'silu',
  swish: 'silu',
  relu: 'relu',
};

/** The configuration's name of an activation -> the engine's. */
export function activationOf(name: string, field = 'hidden_act'): Activation {
  const kind = Object.hasOwn(byName, name) ? byName[name] : undefined;
  if (kind) return kind;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected one of ${Object.keys(byName).join(', ')} for ${field} but received '${String(name)}'`,
    { details: { field } },
  );
}
