/**
 * Writes a folder with a checkpoint of Swatch: node make-weights.mjs FOLDER. Nobody trained it: its weights are chosen so that the mean colour
 * of the picture's patches reaches the last token, where the nearest corner of the colour cube is the next word. Seeded noise lies on them.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = process.argv[2] ?? 'weights';
const width = 16;
const patch = 8;

/** Red, green and blue of each colour that has a name: -1 is dark, 1 is bright. */
const colours = {
  black: [-1, -1, -1],
  red: [1, -1, -1],
  green: [-1, 1, -1],
  blue: [-1, -1, 1],
  yellow: [1, 1, -1],
  magenta: [1, -1, 1],
  cyan: [-1, 1, 1],
  white: [1, 1, 1],
};
const vocabulary = [
  '[UNK]',
  '</s>',
  '<picture>',
  'what',
  'which',
  'colour',
  'is',
  'this',
  'it',
  '?',
  ...Object.keys(colours),
];
const id = (token) => vocabulary.indexOf(token);

let state = 1;
const noise = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return (state / 2 ** 32 - 0.5) * 0.01;
};

const tensors = {};
function tensor(name, shape, entries = [], value = noise) {
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, value);
  for (const [row, column, weight] of entries) data[row * (shape[1] ?? 1) + column] += weight;
  tensors[name] = { shape, data };
}

const words = vocabulary.map((_, i) => i).filter((i) => i !== id('<picture>'));
const area = patch * patch;
const channels = [0, 1, 2];
// Columns 0 to 2 of a picture's row are its mean colour. Column 8 marks words, column 9 names of colours.
tensor(
  'see.weight',
  [width, 3 * area],
  channels.flatMap((c) => Array.from({ length: area }, (_, i) => [c, c * area + i, 1 / area])),
);
tensor('see.bias', [width]);
tensor(
  'embed.weight',
  [vocabulary.length, width],
  [...words.map((word) => [word, 8, 1]), ...Object.keys(colours).map((name) => [id(name), 9, 8])],
);
tensor('block.norm.weight', [width], [], () => 1);
// Queries and keys are nearly zero, so every token looks at all before it alike; values are colours, put into columns 4 to 6.
tensor(
  'block.qkv.weight',
  [3 * width, width],
  channels.map((c) => [2 * width + c, c, 1]),
);
tensor(
  'block.out.weight',
  [width, width],
  channels.map((c) => [4 + c, c, 4]),
);
tensor('norm.weight', [width], [], () => 1);
// A colour is called by its corner of the cube; after its name comes the end.
tensor(
  'head.weight',
  [vocabulary.length, width],
  [
    ...Object.entries(colours).flatMap(([name, corner]) => corner.map((sign, c) => [id(name), 4 + c, sign])),
    [id('</s>'), 9, 4],
  ],
);

/** The safetensors format: the length of a JSON header, the header, the bytes. */
function safetensors() {
  let offset = 0;
  const header = {};
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...Object.values(tensors).map(({ data }) => Buffer.from(data.buffer))]);
}

const special = ['[UNK]', '</s>', '<picture>'].map((content) => ({ id: id(content), content, special: true }));
const files = {
  'config.json': {
    architectures: ['SwatchForColourNaming'],
    model_type: 'swatch',
    vocab_size: vocabulary.length,
    hidden_size: width,
    patch_size: patch,
    max_patches: 64,
    picture_token_id: id('<picture>'),
    max_position_embeddings: 256,
    eos_token_id: id('</s>'),
    torch_dtype: 'float32',
  },
  'tokenizer.json': {
    added_tokens: special.map((token) => ({
      ...token,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    })),
    normalizer: { type: 'Lowercase' },
    pre_tokenizer: { type: 'Whitespace' },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      vocab: Object.fromEntries(vocabulary.map((token, i) => [token, i])),
    },
  },
  'tokenizer_config.json': {
    eos_token: '</s>',
    unk_token: '[UNK]',
    chat_template:
      "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{% if part.type == 'image' %}<picture>{% else %}{{ part.text }}{% endif %} {% endfor %}{% endif %}{% endfor %}",
  },
};

mkdirSync(folder, { recursive: true });
for (const [name, content] of Object.entries(files))
  writeFileSync(join(folder, name), JSON.stringify(content, null, 1));
writeFileSync(join(folder, 'model.safetensors'), safetensors());
