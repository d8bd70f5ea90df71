// The engine as a server of many: each row is measured whole and judged by a goal.
import { rows as arrivals } from './arrivals.mjs';
import { rows as conversation } from './conversation.mjs';
import { rows as decode } from './decode.mjs';
import { rows as endurance } from './endurance.mjs';
import { rows as gap } from './gap.mjs';

export const rows = { ...decode, ...gap, ...arrivals, ...conversation, ...endurance };
