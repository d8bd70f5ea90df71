/** Swatch: a language model that looks at a picture and names its colour. Ocelli does not know it. swatch.ts without types and decorators. */
import { Tensor, registerModel, repeatAndPadPlaceholderTokens, resizeImage } from 'ocelli';
import { Attention, Embedding, Linear, Module, RMSNorm, add, mergeMultimodal, reshape, slice } from 'ocelli/nn';

class SwatchBlock extends Module {
  constructor({ hidden_size: width }) {
    super();
    this.norm = new RMSNorm(width, { eps: 1e-6 });
    this.qkv = new Linear(width, 3 * width, { bias: false });
    this.attn = new Attention(width);
    this.out = new Linear(width, width, { bias: false });
  }

  forward(x, { kvCaches, attnMetadata }) {
    const [tokens, width] = x.shape;
    // One head as wide as the model.
    const rows = reshape(this.qkv.forward(this.norm.forward(x)), [tokens, 3, width]);
    const [q, k, v] = [0, 1, 2].map((i) => slice(rows, 1, i, i + 1));
    return add(x, this.out.forward(this.attn.forward(q, k, v, kvCaches[0], attnMetadata)));
  }
}

class SwatchForColourNaming extends Module {
  static inputs({ patch_size: patch }) {
    return { patches: { dtype: 'float32', shape: ['P', 3 * patch * patch] } };
  }
  static forms = [['patches'], []];

  #pictureToken;

  constructor(config) {
    super();
    const { vocab_size: vocabulary, hidden_size: width, patch_size: patch } = config;
    this.embed = new Embedding(vocabulary, width);
    this.see = new Linear(3 * patch * patch, width);
    this.block = new SwatchBlock(config);
    this.norm = new RMSNorm(width, { eps: 1e-6 });
    this.head = new Linear(width, vocabulary, { bias: false });
    this.#pictureToken = config.picture_token_id;
  }

  forward(inputs) {
    const { inputIds, patches } = inputs;
    const features = patches && this.see.forward(patches);
    const x = mergeMultimodal(this.embed.forward(inputIds), inputIds, features, this.#pictureToken);
    return this.norm.forward(this.block.forward(x, inputs));
  }

  computeLogits(hidden) {
    return this.head.forward(hidden);
  }
}

registerModel('SwatchForColourNaming', SwatchForColourNaming, {
  imageInputMapper: mapPictures,
  maxImageTokens: maxPictureTokens,
  dummyData: dummyPictures,
  inputProcessor: expandPictures,
  kwargs: ['maxPatches'],
});

/** Rows and columns of patches that a picture of this size is scaled to: at most `most`, at least one. */
function gridOf(width, height, patch, most) {
  const [wide, high] = [Math.ceil(width / patch), Math.ceil(height / patch)];
  const scale = Math.min(1, Math.sqrt(most / (wide * high)));
  const rows = Math.min(most, Math.max(1, Math.floor(high * scale)));
  return [rows, Math.min(Math.floor(most / rows), Math.max(1, Math.floor(wide * scale)))];
}

function mostPatches(ctx, kwargs) {
  return kwargs.maxPatches ?? ctx.getHfConfig('swatch').max_patches;
}

/** `patches` [n, 3 * patch * patch] of each picture, from -1 to 1, channel by channel. */
async function mapPictures(ctx, data, kwargs) {
  const { patch_size: patch } = ctx.getHfConfig('swatch');
  const pictures = Array.isArray(data) ? data : [data];
  const patches = pictures.map(async (picture) => {
    const [rows, cols] = gridOf(picture.width, picture.height, patch, mostPatches(ctx, kwargs));
    const { data: pixels } = await resizeImage(picture, cols * patch, rows * patch, 'bilinear');
    const size = 3 * patch * patch;
    const values = new Float32Array(rows * cols * size);
    for (let y = 0; y < rows * patch; y++) {
      for (let x = 0; x < cols * patch; x++) {
        const row = Math.floor(y / patch) * cols + Math.floor(x / patch);
        const place = (y % patch) * patch + (x % patch);
        for (let c = 0; c < 3; c++)
          values[row * size + c * patch * patch + place] = pixels[(y * cols * patch + x) * 3 + c] / 127.5 - 1;
      }
    }
    return new Tensor('float32', [rows * cols, size], values);
  });
  return { patches: await Promise.all(patches) };
}

function maxPictureTokens(ctx, kwargs) {
  return mostPatches(ctx, kwargs);
}

/** A prompt with as many pictures as the engine allows, each as expensive as a picture can be: a strip of single patches. */
function dummyPictures(ctx, seqLen, mmCounts, kwargs) {
  const { patch_size: patch, picture_token_id: token } = ctx.getHfConfig('swatch');
  const [most, count] = [mostPatches(ctx, kwargs), mmCounts.image];
  const size = { width: most * patch, height: patch };
  const picture = { ...size, channels: 3, data: new Uint8Array(size.width * size.height * 3) };
  const promptTokenIds = new Array(Math.max(seqLen, count * most)).fill(0).fill(token, 0, count * most);
  return { promptTokenIds, multiModalData: { image: new Array(count).fill(picture) } };
}

/** One placeholder per picture becomes one per patch. */
function expandPictures(ctx, inputs, kwargs) {
  const { patch_size: patch, picture_token_id: token } = ctx.getHfConfig('swatch');
  const pictures = [inputs.multiModalData?.image ?? []].flat();
  const repeatCount = pictures.map(({ width, height }) => {
    const [rows, cols] = gridOf(width, height, patch, mostPatches(ctx, kwargs));
    return rows * cols;
  });
  const options = { placeholderTokenId: token, repeatCount };
  const [, promptTokenIds] = repeatAndPadPlaceholderTokens(undefined, undefined, inputs.promptTokenIds, options);
  return { ...inputs, promptTokenIds };
}
