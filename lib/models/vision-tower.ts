/** What a multimodal model needs of its vision tower. LLaVA and its kin choose one by vision_config.model_type, here and nowhere else. */
import { OcelliError } from '../errors';
import { clipTower } from './clip';
import { siglipTower } from './siglip';
import type { FeatureSelection, VisionConfig, VisionModel } from './vision-encoder';

/** One object per tower: its figures, computed from vision_config, and its module. */
export interface VisionTower {
  /** Patches along one side of a picture. */
  patchesPerSide(config: VisionConfig): number;
  /** Rows that the tower makes of one picture. */
  rows(config: VisionConfig): number;
  create(config: VisionConfig, selection: FeatureSelection): VisionModel;
}

const towers: Readonly<Record<string, VisionTower>> = {
  clip_vision_model: clipTower,
  siglip_vision_model: siglipTower,
};

export function towerOf({ model_type: type }: VisionConfig): VisionTower {
  const tower = Object.hasOwn(towers, type) ? towers[type] : undefined;
  if (tower) return tower;
  throw new OcelliError(
    'ERR_CONFIG',
    `Expected one of ${Object.keys(towers).join(', ')} for vision_config.model_type but received '${type}'`,
    { details: { field: 'vision_config.model_type' } },
  );
}

/** Rows of one picture that reach the projector. */
export function selectedRows(config: VisionConfig, strategy: FeatureSelection['strategy']): number {
  return towerOf(config).rows(config) - (strategy === 'default' ? 1 : 0);
}
