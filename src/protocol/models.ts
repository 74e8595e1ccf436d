/** Model configuration of an agent (managed-agents-protocol.md §7.5). Model ids are open strings. */
import { z } from 'zod';
import { unavailable } from './fields.ts';

export const efforts = ['low', 'medium', 'high', 'xhigh', 'max'] as const;

const effort = z.enum(efforts);
const modelId = z.string().min(1).max(256);

export const modelConfigParams = z.strictObject({
  id: modelId,
  effort: z.union([effort, z.strictObject({ type: effort })]).nullish(),
  speed: z
    .literal('standard', {
      error: (issue) =>
        issue.input === 'fast'
          ? unavailable('speed "fast" is', 'leave it out or send "standard"')
          : undefined,
    })
    .nullish(),
  inference_geo: z
    .null({
      error: () =>
        unavailable('inference_geo is', 'leave it out; the provider endpoint decides where a model runs'),
    })
    .optional(),
});

export const modelParam = z.union([modelId, modelConfigParams]);

/** `effort` is absent where the provider's own default applies. */
export const modelConfig = z.looseObject({
  id: z.string(),
  effort: z.looseObject({ type: effort }).optional(),
  speed: z.literal('standard'),
});

export type ModelParam = z.infer<typeof modelParam>;
export type ModelConfig = z.infer<typeof modelConfig>;
