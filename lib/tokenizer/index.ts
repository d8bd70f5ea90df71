export { Tokenizer, type DecodeOptions, type EncodeOptions, type Segment } from './tokenizer';
export { DetokenizeStream } from './stream';
export type { ChatTemplateOptions, TemplateMessage } from './chat-template';
