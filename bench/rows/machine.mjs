import { native } from '../ops/op.mjs';

export const { cores } = native.info();
