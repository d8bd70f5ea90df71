/** Renders one template at a time, away from the event loop. */
import { parentPort } from 'node:worker_threads';

interface Job {
  id: number;
  template: string;
  context: string;
}

interface CompiledTemplate {
  render(context: Record<string, unknown>): string;
}

const cache = new Map<string, CompiledTemplate>();

void (async () => {
  const { Template } = await import('@huggingface/jinja');
  parentPort!.on('message', ({ id, template, context }: Job) => {
    try {
      let compiled = cache.get(template);
      if (!compiled) {
        if (cache.size >= 16) cache.clear();
        compiled = new Template(template);
        cache.set(template, compiled);
      }
      const text = compiled.render(JSON.parse(context) as Record<string, unknown>);
      parentPort!.postMessage({ id, text });
    } catch (e) {
      parentPort!.postMessage({ id, error: e instanceof Error ? e.message : String(e) });
    }
  });
  parentPort!.postMessage({ started: true });
})();
