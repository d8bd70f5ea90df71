import { OcelliError } from '../errors';

/** A layer's keys and values. Paged and owned by the engine; forward hands it to the attention of that layer, as in vLLM. */
export class KvCache {
  private constructor(readonly layer: number) {}

  /** `kvCaches[i]` for any i: how many layers there are is the model's own knowledge. */
  static list(): readonly KvCache[] {
    const made = new Map<number, KvCache>();
    return new Proxy([] as KvCache[], {
      get(target, key, receiver): unknown {
        if (typeof key !== 'string' || !/^\d+$/.test(key)) {
          if (key === Symbol.iterator || key === 'length' || key === 'map' || key === 'forEach') {
            throw new OcelliError(
              'ERR_TRACE',
              'Expected kvCaches[i] but received a loop over kvCaches, whose length is not known while tracing',
              {
                hint: 'Loop over the layers and hand kvCaches[i] to each.',
              },
            );
          }
          return Reflect.get(target, key, receiver);
        }
        const layer = Number(key);
        if (!made.has(layer)) made.set(layer, new KvCache(layer));
        return made.get(layer);
      },
    });
  }
}
