/** What all registrations share: the decorator forms, and which processor kwargs a hook takes. */
import type { ZodObject } from 'zod';
import { OcelliError, nearestName } from '../errors';
import type { ModelClass } from './model-class';

export interface HookOptions {
  /** Names of the mmProcessorKwargs that the hook takes, or a zod object that also validates them. Others are dropped with a warning. */
  kwargs?: readonly string[] | ZodObject;
}

export type Kwargs = Record<string, unknown>;

/** TC39 decorator, experimentalDecorators decorator, or a plain call. */
export type ClassDecorator_ = <T extends ModelClass>(value: T, context?: ClassDecoratorContext<T>) => T;

/**
 * A class decorator that calls `put` with the class. Under TC39 decorators another decorator may replace the class afterwards, so
 * the entry is put by an initializer, which runs on the final class.
 */
export function classDecorator(put: (modelClass: ModelClass) => void): ClassDecorator_ {
  return <T extends ModelClass>(value: T, context?: ClassDecoratorContext<T>): T => {
    if (typeof value !== 'function') {
      throw new OcelliError('ERR_REGISTRY', `Expected a model class for the registration but received ${typeof value}`);
    }
    if (context && typeof context.addInitializer === 'function') {
      context.addInitializer(function (this: unknown) {
        put(this as ModelClass);
      });
    } else {
      put(value);
    }
    return value;
  };
}

/** Keys that would reach an object's prototype; never taken from a request. */
const unsafeKeys = new Set(['__proto__', 'constructor', 'prototype']);

/**
 * Those of `kwargs` that the hook declares, in its spelling: min_pixels, as checkpoints and HTTP bodies write it, is minPixels. Each
 * other one is dropped, `dropped` gets its name. A zod object also validates
 * (ERR_MM_PROCESSOR_KWARGS names the field).
 */
export function selectKwargs(
  options: HookOptions | undefined,
  kwargs: Readonly<Kwargs>,
  dropped?: (name: string, nearest: string | undefined) => void,
): Kwargs {
  const declared = options?.kwargs;
  const names =
    declared === undefined
      ? []
      : Array.isArray(declared)
        ? (declared as readonly string[])
        : Object.keys((declared as ZodObject).shape);
  const selected: Kwargs = {};
  for (const [name, value] of Object.entries(kwargs)) {
    const own = names.includes(name) ? name : name.replace(/_([a-z0-9])/g, (_, c: string) => c.toUpperCase());
    if (unsafeKeys.has(name)) dropped?.(name, undefined);
    else if (!names.includes(own)) dropped?.(name, nearestName(name, names));
    else if (value !== undefined) selected[own] = value;
  }
  if (declared !== undefined && !Array.isArray(declared)) {
    const parsed = (declared as ZodObject).safeParse(selected);
    if (!parsed.success) {
      const issue = parsed.error.issues[0]!;
      throw new OcelliError(
        'ERR_MM_PROCESSOR_KWARGS',
        `Expected a valid value for mmProcessorKwargs.${issue.path.map(String).join('.')} but received one that fails: ${issue.message}`,
        { details: { field: issue.path.map(String).join('.') } },
      );
    }
    return parsed.data as Kwargs;
  }
  return selected;
}

/** Warns once per key and process-wide scope; the library never prints. */
export function warnOnce(seen: Set<string>, code: `ERR_${string}` | `WARN_${string}`, message: string): void {
  const key = `${code}:${message}`;
  if (seen.has(key)) return;
  seen.add(key);
  process.emitWarning(message, { code, type: 'OcelliWarning' });
}
