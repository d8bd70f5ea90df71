import { InputRegistry } from '../inputs/registry';
import { MultiModalRegistry } from './registry';

export { MultiModalKwargs, type NestedTensors } from './kwargs';
export { MultiModalPlugin, type LoadContext } from './plugin';
export { MultiModalRegistry } from './registry';
export { repeatAndPadPlaceholderTokens, type PlaceholderOptions } from './placeholders';
export { ImageProcessor } from './processors';
export type { InputMapper, MaxTokens, MultiModalData } from './types';

interface Registries {
  multiModal: MultiModalRegistry;
  input: InputRegistry;
  from: string;
}

const key = Symbol.for('ocelli.registries.1');

/** One pair of registries per process, whichever copy of the package asks first: a model registered by one is known to all. */
function sharedRegistries(): Registries {
  const holder = globalThis as typeof globalThis & { [key]?: Registries };
  const existing = holder[key];
  if (existing) {
    if (existing.from !== __dirname) {
      process.emitWarning(
        `Two copies of ocelli are loaded: ${existing.from} and ${__dirname}; they share their registries`,
        {
          code: 'WARN_TWO_COPIES',
          type: 'OcelliWarning',
        },
      );
    }
    return existing;
  }
  const created: Registries = { multiModal: new MultiModalRegistry(), input: new InputRegistry(), from: __dirname };
  Object.defineProperty(holder, key, { value: created });
  return created;
}

const shared = sharedRegistries();

export const MULTIMODAL_REGISTRY = shared.multiModal;
export const INPUT_REGISTRY = shared.input;
