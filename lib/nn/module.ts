import { OcelliError } from '../errors';

/** A tensor of the checkpoint. Its name is the path of attributes that leads to it: `model.layers.0.mlp.up_proj.weight`. */
export class Parameter {
  /** The attribute path, set when the model is walked; a parameter shared by two modules keeps the first. */
  name = '';

  /** Stored as matrices [rows, columns], one after the other, and read transposed. */
  readonly transposed?: readonly [rows: number, columns: number];

  /** @param shape as in the checkpoint, or as read where the checkpoint has it otherwise */
  constructor(
    readonly shape: readonly number[],
    options: { transposed?: readonly [rows: number, columns: number] } = {},
  ) {
    if (options.transposed) this.transposed = options.transposed;
    if (shape.length === 0 || !shape.every((n) => Number.isSafeInteger(n) && n > 0)) {
      throw new OcelliError(
        'ERR_PARAMETER',
        `Expected positive integers for the shape of a parameter but received [${shape.join(', ')}]`,
        {
          hint: 'A size that the configuration lacks is undefined here; check the field names.',
        },
      );
    }
  }
}

/**
 * A part of a model. Attributes that are modules, parameters or arrays of modules are found by walking; their names are the
 * checkpoint's. `forward` runs once, on symbolic values, when the model is loaded. Private `#fields` are not walked.
 */
export abstract class Module {
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- each module has its own operands
  abstract forward(...inputs: any[]): unknown;

  /** Parameters below this module by name, in the order of attributes; one shared by several modules comes once. */
  namedParameters(): Map<string, Parameter> {
    const found = new Map<string, Parameter>();
    const seen = new Set<Parameter>();
    walk(this, '', (path, item) => {
      if (item instanceof Parameter && !seen.has(item)) {
        seen.add(item);
        found.set(path, item);
      }
    });
    return found;
  }

  namedModules(): Map<string, Module> {
    const found = new Map<string, Module>();
    walk(this, '', (path, item) => {
      if (item instanceof Module) found.set(path, item);
    });
    return found;
  }
}

/** Visits modules and parameters depth first; a module that is reached twice is visited at its first path. */
function walk(
  root: Module,
  prefix: string,
  visit: (path: string, item: Module | Parameter) => void,
  seen = new Set<unknown>(),
): void {
  if (seen.has(root)) return;
  seen.add(root);
  visit(prefix, root);
  const step = (path: string, item: unknown): void => {
    if (item instanceof Parameter) visit(path, item);
    else if (item instanceof Module) walk(item, path, visit, seen);
    else if (Array.isArray(item) && !seen.has(item)) {
      seen.add(item);
      item.forEach((element, i) => step(`${path}.${i}`, element));
    }
  };
  for (const [name, item] of Object.entries(root)) step(prefix === '' ? name : `${prefix}.${name}`, item);
}
