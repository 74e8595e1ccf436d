/** Builds of environments and the layers they leave: ours, the native protocol has none of it. */
import { z } from 'zod';
import { timestamp } from './fields.ts';

const lockedPackage = z.looseObject({
  manager: z.string(),
  name: z.string(),
  version: z.string(),
  /** As the manager tells it; null where it does not. */
  hash: z.string().nullable(),
});

/** How far an environment's present version is built. `nothing_to_build`: it is its base and no more. */
export const environmentBuild = z.looseObject({
  type: z.literal('environment_build'),
  environment_id: z.string(),
  version: z.int(),
  status: z.enum(['nothing_to_build', 'not_built', 'building', 'ready', 'failed']),
  /** Of the layer's content. */
  digest: z.string().nullable(),
  size_bytes: z.int().nullable(),
  duration_ms: z.int().nullable(),
  /** What was really installed (`environment.lock`); the next host installs just that. */
  packages: z.array(lockedPackage).nullable(),
  /** What was not kept as the build left it. */
  notes: z.array(z.string()),
  error: z
    .looseObject({
      message: z.string(),
      step: z.string().nullable(),
      command: z.string().nullable(),
      exit_code: z.int().nullable(),
      output: z.string(),
    })
    .nullable(),
});

export const environmentLayer = z.looseObject({
  type: z.literal('environment_layer'),
  digest: z.string(),
  host: z.string(),
  size_bytes: z.int(),
  files: z.int(),
  built_at: timestamp,
  /** Disks of sessions that refer to it; without any it may be removed. */
  sessions: z.int(),
});

export const rollbackParams = z.strictObject({
  /** The version whose config becomes that of a new version. */
  version: z.int().min(1),
});

export const cleanLayersParams = z.strictObject({
  /** Younger ones stay: a build ahead of its sessions is not in vain. */
  older_than_seconds: z
    .int()
    .min(0)
    .max(10 * 365 * 86_400)
    .nullish(),
});

export const cleanedLayers = z.looseObject({
  type: z.literal('environment_layers_cleaned'),
  removed: z.array(z.string()),
});

export type EnvironmentBuild = z.infer<typeof environmentBuild>;
export type EnvironmentLayer = z.infer<typeof environmentLayer>;
