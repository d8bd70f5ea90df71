/** tokenizer.json: text to ids and back. The file is the truth: its pipeline is run as written. */
import { OcelliError } from '../errors';
import { AddedTokenMatcher, type AddedToken, type Stretch } from './added-tokens';
import { Bpe, type Model } from './bpe';
import { renderTemplate, type ChatTemplateOptions, type TemplateMessage } from './chat-template';
import { breakSpellings, flatMessage, messageOfParts, templateTakes, unusedCharacter } from './message-text';
import { decoderOf, type Decoder } from './decoders';
import { Unigram, WordPiece } from './models';
import { object, openTokenizerFiles, readTemplates, type Json, type TokenizerFiles } from './files';
import { normalizerOf, type Normalizer } from './normalizers';
import { preTokenizerOf, type PreTokenizer } from './pre-tokenizers';

export interface EncodeOptions {
  /** BOS and the like, as the file's post-processor says. */
  addSpecialTokens?: boolean;
  /** False for untrusted text: spellings of added tokens are plain text and never give their ids. */
  allowSpecial?: boolean;
}

/**
 * A part of a prompt: text, in which spellings of special tokens count only where it is trusted, or ids. `outside`: ids that are no part
 * of the text (BOS of the post-processor), which begins behind them as if they were not there.
 */
export type Segment = { text: string; trusted: boolean } | { ids: readonly number[]; outside?: boolean };

export interface DecodeOptions {
  skipSpecialTokens?: boolean;
  /** False joins special tokens to their neighbours; only tokenizers of words have spaces to lose. */
  spacesBetweenSpecialTokens?: boolean;
}

export class Tokenizer {
  readonly vocabSize: number;
  readonly specialTokenIds: ReadonlySet<number>;
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  readonly padTokenId: number | undefined;
  private readonly vocab = new Map<string, number>();
  private readonly tokens: (string | undefined)[] = [];
  private readonly added: readonly AddedToken[];
  private readonly addedIds: ReadonlySet<number>;
  private readonly normalize: Normalizer;
  private readonly preTokenize: PreTokenizer;
  private readonly model: Model;
  private readonly decoder: Decoder;
  private readonly rawMatcher: AddedTokenMatcher;
  private readonly normalizedMatcher: AddedTokenMatcher;
  private readonly leading: readonly number[];
  private readonly trailing: readonly number[];

  private constructor(
    file: Json,
    private readonly config: Json,
    private readonly templates: ReadonlyMap<string, string>,
  ) {
    const model = object(file.model, 'model');
    this.readVocab(model);
    this.normalize = normalizerOf(file.normalizer);
    this.added = readAdded(file.added_tokens);
    for (const token of this.added) {
      this.vocab.set(token.content, token.id);
      // Matched in normalized text, so that is what it reads as.
      this.tokens[token.id] = token.normalized ? this.normalize(token.content) : token.content;
    }
    this.addedIds = new Set(this.added.map((t) => t.id));
    this.specialTokenIds = new Set(this.added.filter((t) => t.special).map((t) => t.id));
    this.vocabSize = this.tokens.length;
    this.preTokenize = preTokenizerOf(file.pre_tokenizer);
    this.decoder = decoderOf(file.decoder);
    this.model = this.readModel(model);
    this.rawMatcher = new AddedTokenMatcher(this.added.filter((t) => !t.normalized));
    this.normalizedMatcher = new AddedTokenMatcher(
      this.added.filter((t) => t.normalized),
      this.normalize,
    );
    [this.leading, this.trailing] = this.readPostProcessor(file.post_processor);
    this.bosTokenId = this.specialId('bos_token');
    this.eosTokenId = this.specialId('eos_token');
    this.padTokenId = this.specialId('pad_token');
  }

  /** @param from a checkpoint folder, a tokenizer.json (files beside it are read too), a GGUF file, or what has these files */
  static async load(from: string | TokenizerFiles): Promise<Tokenizer> {
    const source = typeof from === 'string' ? await openTokenizerFiles(from) : from;
    const file = await source.json('tokenizer.json');
    if (!file) {
      throw new OcelliError('ERR_TOKENIZER', `Expected a tokenizer at ${source.path} but found none`, {
        hint: 'A checkpoint folder needs tokenizer.json.',
      });
    }
    const config = {
      ...(await source.json('special_tokens_map.json')),
      ...(await source.json('tokenizer_config.json')),
    };
    const templates = await readTemplates(source, config);
    try {
      return new Tokenizer(file, config, templates);
    } catch (e) {
      if (OcelliError.is(e)) throw e;
      throw new OcelliError(
        'ERR_TOKENIZER',
        `Expected a well-formed tokenizer at ${source.path}: ${(e as Error).message}`,
        {
          cause: e,
        },
      );
    }
  }

  /** Ids of a text. A lone surrogate is read as U+FFFD. */
  encode(text: string, { addSpecialTokens = true, allowSpecial = true }: EncodeOptions = {}): number[] {
    if (typeof text !== 'string')
      throw new OcelliError('ERR_INVALID_ARGUMENT', `Expected a string to encode but received ${typeof text}`);
    const whole = wellFormed(text);
    const ids = this.encodeStretches(allowSpecial ? this.rawMatcher.split(whole) : [{ text: whole }], allowSpecial);
    return addSpecialTokens ? [...this.leading, ...ids, ...this.trailing] : ids;
  }

  /** A trusted text in parts: its special tokens as ids, what stands between them as text. */
  segments(text: string, { addSpecialTokens = true }: { addSpecialTokens?: boolean } = {}): Segment[] {
    const parts = this.rawMatcher.split(wellFormed(text)).map((s) => segmentOf(s, true));
    return addSpecialTokens ? this.surrounded(parts) : parts;
  }

  private surrounded(parts: readonly Segment[]): Segment[] {
    const around = (ids: readonly number[]): Segment[] => (ids.length > 0 ? [{ ids, outside: true }] : []);
    return [...around(this.leading), ...parts, ...around(this.trailing)];
  }

  /** Whether a text spells the token that would be put in front of it (transformers, processing_utils.py, apply_chat_template). */
  spellsBos(text: string): boolean {
    const bos = this.leading.length > 0 ? this.idToToken(this.leading[0]!) : undefined;
    return bos !== undefined && text.startsWith(bos);
  }

  /** Ids of a prompt in parts. */
  encodeSegments(segments: readonly Segment[]): number[] {
    const ids: number[] = [];
    let first = true;
    for (const segment of segments) {
      if (!('text' in segment)) {
        for (const id of segment.ids) ids.push(id);
        first &&= segment.outside === true;
      } else if (segment.text !== '') {
        const whole = wellFormed(segment.text);
        const stretches = segment.trusted ? this.rawMatcher.split(whole) : [{ text: whole }];
        for (const id of this.encodeStretches(stretches, segment.trusted, first)) ids.push(id);
        first = false;
      }
    }
    return ids;
  }

  /** Text of ids; unknown ids are passed over. */
  decode(ids: readonly number[], { skipSpecialTokens = true }: DecodeOptions = {}): string {
    const tokens: string[] = [];
    for (const id of ids) {
      const token = this.tokens[id];
      if (token === undefined || (skipSpecialTokens && this.specialTokenIds.has(id))) continue;
      tokens.push(token);
    }
    return this.decoder(tokens).join('');
  }

  tokenToId(token: string): number | undefined {
    return this.vocab.get(token);
  }

  idToToken(id: number): string | undefined {
    return this.tokens[id];
  }

  get hasChatTemplate(): boolean {
    return this.templates.size > 0;
  }

  /** The messages as the model's prompt text. */
  async applyChatTemplate(messages: readonly TemplateMessage[], options: ChatTemplateOptions = {}): Promise<string> {
    return renderTemplate(this.chatTemplate(options), messages, this.templateVariables(), options);
  }

  /**
   * Prompt text and ids of messages whose text is untrusted: spellings of added tokens in it stay plain text, those that the
   * template writes are tokens. A private-use character that no message holds breaks the spellings until the template's own
   * tokens are cut out.
   * @param placeholders modality -> token of an item, written in front of a message's text where the template takes no parts
   * @param addSpecialTokens as a text's, unless the template writes the BOS itself: what a processor of pictures does
   */
  async renderChat(
    messages: readonly TemplateMessage[],
    options: ChatTemplateOptions = {},
    placeholders: Readonly<Record<string, string>> = {},
    addSpecialTokens = false,
  ): Promise<{ text: string; segments: Segment[]; ids: number[] }> {
    const all = JSON.stringify(messages);
    const marker = unusedCharacter(all);
    const items = new Map<string, string>();
    for (const modality of Object.keys(placeholders))
      items.set(modality, unusedCharacter([all, marker, ...items.values()].join('')));
    const takes = await templateTakes(this.chatTemplate(options), this.templateVariables());
    const given = messages.map((m) =>
      takes.parts ? (takes.text ? m : messageOfParts(m)) : flatMessage(m, (modality) => items.get(modality) ?? ''),
    );
    const contents = this.added.map((t) => t.content).filter((c) => c.length > 1);
    const broken = contents.length === 0 ? given : given.map((m) => breakSpellings(m, contents, marker));
    let rendered = await this.applyChatTemplate(broken, options);
    // Only the text that flatMessage wrote has these characters.
    for (const [modality, item] of items) rendered = rendered.replaceAll(item, placeholders[modality]!);
    // A stretch that starts the text keeps its prefix rules.
    const parts = this.rawMatcher
      .split(wellFormed(rendered))
      .map((s) => segmentOf(s.id === undefined ? { text: s.text.replaceAll(marker, '') } : s, false));
    const segments = addSpecialTokens && !this.spellsBos(rendered) ? this.surrounded(parts) : parts;
    return { text: rendered.replaceAll(marker, ''), segments, ids: this.encodeSegments(segments) };
  }

  private encodeStretches(stretches: readonly Stretch[], normalizedTokens: boolean, first = true): number[] {
    const ids: number[] = [];
    stretches.forEach((stretch, i) => {
      if (stretch.id !== undefined) {
        ids.push(stretch.id);
        return;
      }
      const normal = this.normalize(stretch.text);
      const parts = normalizedTokens ? this.normalizedMatcher.split(normal) : [{ text: normal } as Stretch];
      parts.forEach((part, j) => {
        if (part.id !== undefined) ids.push(part.id);
        else if (part.text !== '') {
          for (const piece of this.preTokenize([{ text: part.text, first: first && i === 0 && j === 0 }])) {
            for (const id of this.model.encode(piece.text)) ids.push(id);
          }
        }
      });
    });
    return ids;
  }

  private chatTemplate({ chatTemplate, tools }: ChatTemplateOptions): string {
    if (chatTemplate !== undefined) return this.templates.get(chatTemplate) ?? chatTemplate;
    const template = (tools ? this.templates.get('tool_use') : undefined) ?? this.templates.get('default');
    if (template !== undefined) return template;
    throw new OcelliError('ERR_NO_CHAT_TEMPLATE', 'Expected a chat template beside tokenizer.json but found none', {
      hint: 'Pass chatTemplate, or use generate() with a prompt.',
    });
  }

  private templateVariables(): Json {
    const names = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'sep_token', 'cls_token', 'mask_token'];
    return Object.fromEntries(names.map((n) => [n, tokenContent(this.config[n])]).filter(([, v]) => v !== undefined));
  }

  private specialId(name: string): number | undefined {
    const content = tokenContent(this.config[name]);
    return content === undefined ? undefined : this.vocab.get(content);
  }

  private readVocab(model: Json): void {
    const entries = Array.isArray(model.vocab)
      ? (model.vocab as [string, number][]).map(([token], id) => [token, id] as const)
      : Object.entries(object(model.vocab, 'model.vocab') as Record<string, number>);
    for (const [token, id] of entries) {
      if (!Number.isSafeInteger(id) || id < 0 || id > 1e7)
        throw new OcelliError('ERR_TOKENIZER', `Expected an id from 0 for ${JSON.stringify(token)} in model.vocab`);
      this.vocab.set(token, id);
      this.tokens[id] = token;
    }
  }

  private readModel(model: Json): Model {
    const type = model.type ?? (Array.isArray(model.vocab) ? 'Unigram' : 'BPE');
    if (type === 'BPE') {
      // What the model may use: its own vocabulary. Special tokens come from added tokens alone; unk and bytes are the model's.
      const reserved = new Set([...this.specialTokenIds].filter((id) => this.tokens[id] !== model.unk_token));
      return new Bpe(model, this.vocab, reserved, this.tokens.length);
    }
    if (type === 'Unigram') return new Unigram(model, this.specialTokenIds);
    if (type === 'WordPiece') return new WordPiece(model, this.vocab);
    throw new OcelliError(
      'ERR_TOKENIZER',
      `Expected BPE, Unigram or WordPiece for model.type but received '${String(type)}'`,
    );
  }

  /** Ids before and after a single sequence. */
  private readPostProcessor(spec: unknown): [number[], number[]] {
    if (spec === null || spec === undefined) return [[], []];
    const json = spec as Json;
    if (json.type === 'Sequence') {
      const parts = (json.processors as unknown[]).map((p) => this.readPostProcessor(p));
      return [parts.flatMap(([l]) => l), parts.flatMap(([, t]) => t)];
    }
    if (json.type === 'BertProcessing' || json.type === 'RobertaProcessing')
      return [[(json.cls as [string, number])[1]], [(json.sep as [string, number])[1]]];
    if (json.type === 'TemplateProcessing') {
      const single = json.single as Record<string, { id: string }>[];
      const specials = json.special_tokens as Record<string, { ids: number[] }>;
      const at = single.findIndex((part) => part.Sequence !== undefined);
      const idsOf = (parts: typeof single): number[] =>
        parts.flatMap((part) => specials[part.SpecialToken?.id ?? '']?.ids ?? []);
      return [idsOf(single.slice(0, at)), idsOf(single.slice(at + 1))];
    }
    if (json.type === 'ByteLevel') return [[], []];
    throw new OcelliError('ERR_TOKENIZER', `Expected a known post-processor but received '${String(json.type)}'`);
  }
}

function readAdded(value: unknown): AddedToken[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value))
    throw new OcelliError('ERR_TOKENIZER', 'Expected a list for added_tokens of tokenizer.json');
  return value.map((entry: unknown) => {
    const t = object(entry, 'added_tokens[]');
    if (
      !Number.isSafeInteger(t.id) ||
      (t.id as number) < 0 ||
      (t.id as number) > 1e7 ||
      typeof t.content !== 'string'
    ) {
      throw new OcelliError('ERR_TOKENIZER', 'Expected an id and a content for each of added_tokens');
    }
    return {
      id: t.id as number,
      content: t.content,
      singleWord: t.single_word === true,
      lstrip: t.lstrip === true,
      rstrip: t.rstrip === true,
      normalized: t.normalized === true,
      special: t.special === true,
    };
  });
}

function segmentOf({ id, text }: Stretch, trusted: boolean): Segment {
  return id === undefined ? { text, trusted } : { ids: [id] };
}

function tokenContent(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  const content = (value as Json | undefined)?.content;
  return typeof content === 'string' ? content : undefined;
}

function wellFormed(text: string): string {
  return (text as string & { toWellFormed(): string }).toWellFormed();
}
