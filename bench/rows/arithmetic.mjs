// What a Llama shape computes and reads, from its configuration: the predictions that figures are held against.

const head = (s) => s.hidden_size / s.num_attention_heads;

/** Weights of the linear layers of the body, and of the output matrix. */
export function linearWeights(s) {
  const kv = head(s) * s.num_key_value_heads;
  const layer = s.hidden_size * (2 * s.hidden_size + 2 * kv + 3 * s.intermediate_size);
  return { body: layer * s.num_hidden_layers, output: s.hidden_size * s.vocab_size };
}

/** Operations of a prompt: each token through the body, sees itself and those before it; one row of logits. */
export function promptOperations(s, tokens) {
  const { body, output } = linearWeights(s);
  const pairs = (tokens * (tokens + 1)) / 2;
  return 2 * body * tokens + 2 * output + 4 * s.hidden_size * pairs * s.num_hidden_layers;
}

/** Bits of a weight in memory, scales counted. */
export const bits = { bf16: 16, i8: 8.5, i8_rows: 8, i4: 5, i4_rows: 5 };

/**
 * Bytes that a step reads: the weights once, and each sequence's keys and values.
 * @param kvBytes of a token, as in memoryPlan.kvBytesPerToken
 */
export function stepBytes(s, { body, output }, sequences, context, kvBytes) {
  const weights = linearWeights(s);
  return (weights.body * bits[body] + weights.output * bits[output]) / 8 + sequences * context * kvBytes;
}

/** Operations of the picture tower without its last layer, patches and a LLaVA projector of two layers included. */
export function towerOperations({ vision_config: v, text_config: t }) {
  const patches = (v.image_size / v.patch_size) ** 2;
  const rows = patches + 1;
  const layer = 2 * rows * (4 * v.hidden_size ** 2 + 2 * v.hidden_size * v.intermediate_size);
  const attention = 4 * rows * rows * v.hidden_size;
  const projector = 2 * patches * (v.hidden_size * t.hidden_size + t.hidden_size ** 2);
  return (
    2 * patches * v.hidden_size * 3 * v.patch_size ** 2 + (v.num_hidden_layers - 1) * (layer + attention) + projector
  );
}
