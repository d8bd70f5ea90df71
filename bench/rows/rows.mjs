// Rows of the whole engine beside its peers, each with goals of its own.
import { rows as growth } from './growth.mjs';
import { rows as memory } from './memory.mjs';
import { rows as pictures } from './pictures.mjs';
import { rows as text } from './text.mjs';

export const rows = { ...text, ...pictures, ...memory, ...growth };
