/**
 * What programs may listen to through node:diagnostics_channel: nothing is made, and nothing costs, while nobody listens.
 *
 * ocelli:engine:load     { model, memoryPlan, device }       device: { backend, gpu?, reason }
 * ocelli:request:start   { requestId }                      at the call
 * ocelli:request:submit  { requestId, promptTokens, imageTokens }   the engine has it
 * ocelli:request:end     { requestId, usage, metrics, finishReasons, error? }
 */
import { channel } from 'node:diagnostics_channel';

export type DiagnosticsEvent = 'engine:load' | 'request:start' | 'request:submit' | 'request:end';

const channels = {
  'engine:load': channel('ocelli:engine:load'),
  'request:start': channel('ocelli:request:start'),
  'request:submit': channel('ocelli:request:submit'),
  'request:end': channel('ocelli:request:end'),
} as const;

/** @param message called only where somebody listens */
export function publish(event: DiagnosticsEvent, message: () => Record<string, unknown>): void {
  const target = channels[event];
  if (target.hasSubscribers) target.publish(message());
}
