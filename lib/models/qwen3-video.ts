/** How Qwen3-VL's prompts have a video: each pair of frames between marks of its own, behind the second in which it is, as text. */
import type { Kwargs } from '../config/hooks';
import type { InputContext } from '../inputs/context';
import type { LLMInputs } from '../inputs/registry';
import type { Segment } from '../tokenizer';
import { checkPlaceholders, imageRows, writeItems, type Piece } from './image-inputs';
import { inputProcessorForQwenVl, pictureRows, videoRows, type QwenVlConfig } from './qwen-inputs';
import { secondsOf } from './qwen-video';
import { framesPerSecond, videosOf } from './video-inputs';

interface Qwen3VlMarks extends QwenVlConfig {
  vision_start_token_id: number;
  vision_end_token_id: number;
}

export function inputProcessorForQwen3Vl(ctx: InputContext, inputs: LLMInputs, kwargs: Readonly<Kwargs>): LLMInputs {
  const videos = videosOf(inputs, videoRows(ctx, kwargs));
  if (videos.length === 0) return inputProcessorForQwenVl(ctx, inputs, kwargs);
  const config = ctx.getHfConfig<Qwen3VlMarks>();
  const { image_token_index: image, video_token_index: video, vision_config: vision } = config;
  const [start, end] = [config.vision_start_token_id, config.vision_end_token_id];
  checkPlaceholders(inputs.promptTokenIds, video, videos.length, 'video');
  const pictures = imageRows(inputs, pictureRows(ctx, kwargs));
  const fps = framesPerSecond(kwargs);
  const written = videos.map(({ grid: [time, rows, cols], frames }): Piece[] => {
    const ids = [start, ...new Array<number>((rows * cols) / vision.spatial_merge_size ** 2).fill(video), end];
    return Array.from({ length: time }, (_, pair): Piece[] => {
      const seconds = secondsOf(pair, frames, vision.temporal_patch_size, fps);
      return [{ glue: `<${oneDecimal(seconds)} seconds>` }, { ids }];
    }).flat();
  });
  const segments = withoutMarks(inputs.segments ?? [{ ids: inputs.promptTokenIds }], [start, video, end]);
  return writeItems(
    { ...inputs, segments },
    new Map<number, Piece[][]>([
      [image, pictures.map((rows) => [{ ids: new Array<number>(rows).fill(image) }])],
      [video, written],
    ]),
  );
}

/** A placeholder between marks gives way with them: its frames bring their own. */
function withoutMarks(segments: readonly Segment[], marked: readonly [number, number, number]): Segment[] {
  const parts = segments.flatMap((s): Segment[] =>
    'text' in s || s.outside ? [s] : s.ids.map((id): Segment => ({ ids: [id] })),
  );
  const idAt = (i: number): number | undefined => {
    const part = parts[i];
    return part && 'ids' in part ? part.ids[0] : undefined;
  };
  const begins = (i: number): boolean => marked.every((id, k) => idAt(i + k) === id);
  return parts.filter((_, i) => !begins(i) && !begins(i - 2));
}

/** As the reference writes it: where a number lies between two of one decimal, the even one. */
export function oneDecimal(x: number): string {
  const quarters = x * 4;
  const tie = Number.isInteger(quarters) && quarters % 2 !== 0;
  const floor = Math.floor(x * 10);
  return tie ? ((floor % 2 === 0 ? floor : floor + 1) / 10).toFixed(1) : x.toFixed(1);
}
