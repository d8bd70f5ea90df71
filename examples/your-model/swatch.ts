/** Swatch: a language model that looks at a picture and names its colour. Ocelli does not know it. */
import {
  INPUT_REGISTRY,
  MULTIMODAL_REGISTRY,
  Tensor,
  registerModel,
  repeatAndPadPlaceholderTokens,
  resizeImage,
  type DummyData,
  type InputContext,
  type Kwargs,
  type LLMInputs,
  type RawImage,
  type SupportsMultiModal,
} from 'ocelli';
import {
  Attention,
  Embedding,
  Linear,
  Module,
  RMSNorm,
  add,
  mergeMultimodal,
  reshape,
  slice,
  type ForwardInputs,
  type InputSpecs,
  type Value,
} from 'ocelli/nn';

/** config.json. */
interface SwatchConfig {
  model_type: 'swatch';
  vocab_size: number;
  hidden_size: number;
  /** Pixels of a patch's side. */
  patch_size: number;
  max_patches: number;
  picture_token_id: number;
}

class SwatchBlock extends Module {
  readonly norm: RMSNorm;
  readonly qkv: Linear;
  readonly attn: Attention;
  readonly out: Linear;

  constructor({ hidden_size: width }: SwatchConfig) {
    super();
    this.norm = new RMSNorm(width, { eps: 1e-6 });
    this.qkv = new Linear(width, 3 * width, { bias: false });
    this.attn = new Attention(width);
    this.out = new Linear(width, width, { bias: false });
  }

  forward(x: Value, { kvCaches, attnMetadata }: ForwardInputs): Value {
    const [tokens, width] = x.shape;
    // One head as wide as the model.
    const rows = reshape(this.qkv.forward(this.norm.forward(x)), [tokens!, 3, width!]);
    const [q, k, v] = [0, 1, 2].map((i) => slice(rows, 1, i, i + 1)) as [Value, Value, Value];
    return add(x, this.out.forward(this.attn.forward(q, k, v, kvCaches[0], attnMetadata)));
  }
}

@MULTIMODAL_REGISTRY.registerImageInputMapper(mapPictures, { kwargs: ['maxPatches'] })
@MULTIMODAL_REGISTRY.registerMaxImageTokens(maxPictureTokens, { kwargs: ['maxPatches'] })
@INPUT_REGISTRY.registerDummyData(dummyPictures, { kwargs: ['maxPatches'] })
@INPUT_REGISTRY.registerInputProcessor(expandPictures, { kwargs: ['maxPatches'] })
class SwatchForColourNaming extends Module implements SupportsMultiModal {
  static inputs({ patch_size: patch }: SwatchConfig): InputSpecs {
    return { patches: { dtype: 'float32', shape: ['P', 3 * patch * patch] } };
  }
  static readonly forms = [['patches'], []];

  readonly embed: Embedding;
  readonly see: Linear;
  readonly block: SwatchBlock;
  readonly norm: RMSNorm;
  readonly head: Linear;
  readonly #pictureToken: number;

  constructor(config: SwatchConfig) {
    super();
    const { vocab_size: vocabulary, hidden_size: width, patch_size: patch } = config;
    this.embed = new Embedding(vocabulary, width);
    this.see = new Linear(3 * patch * patch, width);
    this.block = new SwatchBlock(config);
    this.norm = new RMSNorm(width, { eps: 1e-6 });
    this.head = new Linear(width, vocabulary, { bias: false });
    this.#pictureToken = config.picture_token_id;
  }

  forward(inputs: ForwardInputs & { patches?: Value }): Value {
    const { inputIds, patches } = inputs;
    const features = patches && this.see.forward(patches);
    const x = mergeMultimodal(this.embed.forward(inputIds), inputIds, features, this.#pictureToken);
    return this.norm.forward(this.block.forward(x, inputs));
  }

  computeLogits(hidden: Value): Value {
    return this.head.forward(hidden);
  }
}

registerModel('SwatchForColourNaming', SwatchForColourNaming);

/** Rows and columns of patches that a picture of this size is scaled to: at most `most`, at least one. */
function gridOf(width: number, height: number, patch: number, most: number): [rows: number, cols: number] {
  const [wide, high] = [Math.ceil(width / patch), Math.ceil(height / patch)];
  const scale = Math.min(1, Math.sqrt(most / (wide * high)));
  const rows = Math.min(most, Math.max(1, Math.floor(high * scale)));
  return [rows, Math.min(Math.floor(most / rows), Math.max(1, Math.floor(wide * scale)))];
}

function mostPatches(ctx: InputContext, kwargs: Kwargs): number {
  return (kwargs.maxPatches as number | undefined) ?? ctx.getHfConfig<SwatchConfig>('swatch').max_patches;
}

/** `patches` [n, 3 * patch * patch] of each picture, from -1 to 1, channel by channel. */
async function mapPictures(ctx: InputContext, data: unknown, kwargs: Kwargs): Promise<Record<string, unknown>> {
  const { patch_size: patch } = ctx.getHfConfig<SwatchConfig>('swatch');
  const pictures = (Array.isArray(data) ? data : [data]) as RawImage[];
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
          values[row * size + c * patch * patch + place] = pixels[(y * cols * patch + x) * 3 + c]! / 127.5 - 1;
      }
    }
    return new Tensor('float32', [rows * cols, size], values);
  });
  return { patches: await Promise.all(patches) };
}

function maxPictureTokens(ctx: InputContext, kwargs: Kwargs): number {
  return mostPatches(ctx, kwargs);
}

/** A prompt with as many pictures as the engine allows, each as expensive as a picture can be: a strip of single patches. */
function dummyPictures(
  ctx: InputContext,
  seqLen: number,
  mmCounts: Readonly<Record<string, number>>,
  kwargs: Kwargs,
): DummyData {
  const { patch_size: patch, picture_token_id: token } = ctx.getHfConfig<SwatchConfig>('swatch');
  const [most, count] = [mostPatches(ctx, kwargs), mmCounts.image!];
  const size = { width: most * patch, height: patch };
  const picture: RawImage = { ...size, channels: 3, data: new Uint8Array(size.width * size.height * 3) };
  const promptTokenIds = new Array<number>(Math.max(seqLen, count * most)).fill(0).fill(token, 0, count * most);
  return { promptTokenIds, multiModalData: { image: new Array<RawImage>(count).fill(picture) } };
}

/** One placeholder per picture becomes one per patch. */
function expandPictures(ctx: InputContext, inputs: LLMInputs, kwargs: Kwargs): LLMInputs {
  const { patch_size: patch, picture_token_id: token } = ctx.getHfConfig<SwatchConfig>('swatch');
  const pictures = [inputs.multiModalData?.image ?? []].flat() as RawImage[];
  const repeatCount = pictures.map(({ width, height }) => {
    const [rows, cols] = gridOf(width, height, patch, mostPatches(ctx, kwargs));
    return rows * cols;
  });
  const options = { placeholderTokenId: token, repeatCount };
  const [, promptTokenIds] = repeatAndPadPlaceholderTokens(undefined, undefined, inputs.promptTokenIds, options);
  return { ...inputs, promptTokenIds };
}
