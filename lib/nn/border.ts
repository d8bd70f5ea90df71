/** The border between picture and text: what the encoder hands over, and where it enters the text program. */
import { OcelliError } from '../errors';
import { callerLine } from './caller';
import { SymbolicDim, sameDim, shapeText } from './dim';
import { rowsOf, scatterRows } from './ops';
import { tracer, type Tracer } from './tracer';
import type { Value } from './value';

export interface BorderOptions {
  /** Whose items these are; each modality has an encoder of its own. */
  modality?: string;
}

/**
 * x [T, D] with the rows of placeholder ids replaced by features [.., D], in order. What features are made of becomes the encoder
 * program; in the text program they are rows from the encoder cache, so one picture may span several chunks. Without features (a
 * form that carries none) the text program is the same.
 */
export function mergeMultimodal(
  x: Value,
  inputIds: Value,
  features: Value | undefined,
  tokenId: number,
  options: BorderOptions = {},
): Value {
  const t = tracer();
  const { modality = 'image' } = options;
  if (x.rank !== 2 || typeof x.shape[1] !== 'number') {
    throw new OcelliError(
      'ERR_SHAPE',
      `Expected text embeddings [tokens, width] for mergeMultimodal at ${callerLine()} but received ${x.toString()}`,
    );
  }
  if (inputIds?.source?.kind !== 'input' || inputIds.source.name !== 'inputIds') {
    throw new OcelliError(
      'ERR_OPERAND',
      `Expected forward's inputIds for mergeMultimodal at ${callerLine()} but received ${String(inputIds)}`,
    );
  }
  if (!Number.isSafeInteger(tokenId) || tokenId < 0) {
    throw new OcelliError(
      'ERR_OPERAND',
      `Expected a token id for the placeholder of mergeMultimodal at ${callerLine()} but received ${String(tokenId)}`,
      {
        hint: 'The configuration names it image_token_index or image_token_id.',
      },
    );
  }
  t.placeholders.set(modality, tokenId);
  const merged = enter(t, x, features, modality, false);
  t.tap('inputs_embeds', merged);
  return merged;
}

/** x [T, D] with features [.., D] added to the rows of the placeholders: for features that later layers take (deepstack). */
export function addMultimodal(x: Value, features: Value | undefined, options: BorderOptions = {}): Value {
  const { modality = 'image' } = options;
  if (x.rank !== 2 || typeof x.shape[1] !== 'number') {
    throw new OcelliError(
      'ERR_SHAPE',
      `Expected hidden rows [tokens, width] for addMultimodal at ${callerLine()} but received ${x.toString()}`,
    );
  }
  return enter(tracer(), x, features, modality, true);
}

/**
 * Says that the encoder ends here: what is computed from the result belongs to the text program and runs for the rows of a step.
 * Without it the encoder ends at mergeMultimodal.
 */
export function encoderOutput(features: Value, options: BorderOptions = {}): Value {
  const t = tracer();
  const rows = rowsOf(features);
  const width = rows.shape[1];
  if (typeof width !== 'number')
    throw new OcelliError(
      'ERR_SHAPE',
      `Expected features of a fixed width for encoderOutput at ${callerLine()} but received ${features.toString()}`,
    );
  return slot(t, rows, options.modality ?? 'image', width).value;
}

function enter(t: Tracer, x: Value, features: Value | undefined, modality: string, add: boolean): Value {
  const width = x.shape[1] as number;
  const rows = features === undefined ? undefined : rowsOf(features);
  if (rows && !sameDim(rows.shape[1]!, width)) {
    throw new OcelliError(
      'ERR_SHAPE',
      `Expected features of width ${width} at ${callerLine()} but received ${shapeText(features!.shape)}`,
      {
        hint: 'Project the features to the width of the text model first.',
      },
    );
  }
  if (rows && t.isTextSide(rows)) return scatterRows(x, featureRows(t), rows, { add });
  const { value, first } = slot(t, rows, modality, width);
  // A second modality's rows are among the same feature rows: the engine knows which picture or frame each row is.
  return first ? scatterRows(x, featureRows(t), value, { add }) : x;
}

function slot(t: Tracer, rows: Value | undefined, modality: string, width: number): { value: Value; first: boolean } {
  const index = t.borders.filter((b) => b.modality === modality).length;
  t.borders.push({ modality, features: rows, width });
  const existing = t.slots[index];
  if (existing) {
    if (!sameDim(existing.shape[1]!, width)) {
      throw new OcelliError(
        'ERR_SHAPE',
        `Expected features of width ${String(existing.shape[1])}, as the first modality's, for ${modality} at ${callerLine()} but received ${width}`,
      );
    }
    return { value: existing, first: false };
  }
  const offset = t.slots.reduce((sum, s) => sum + (s.shape[1] as number), 0);
  const features = t.textInput('features', () => t.input('features', [SymbolicDim.of('F'), 0], 'act', 'data', 'text'));
  const value = t.newValue([SymbolicDim.of('F'), width], 'act', { kind: 'slice', of: features, dim: 1, start: offset });
  t.slots.push(value);
  return { value, first: true };
}

function featureRows(t: Tracer): Value {
  return t.textInput('featureRows', () => t.input('featureRows', [SymbolicDim.of('F')], 'i32', 'rowIndex', 'text'));
}
