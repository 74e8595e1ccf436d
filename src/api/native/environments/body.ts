/** The stored form of an environment, and changes of it (managed-agents-protocol.md §3). Pure. */
import type { z } from 'zod';
import type {
  EnvironmentConfig,
  environmentCreateParams,
  environmentUpdateParams,
} from '../../../protocol/environments.ts';
import { defaultConfig, mergedConfig } from '../../../protocol/environments.ts';
import { patchMetadata } from '../../../protocol/fields.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import type { ResourcePut } from '../../../store/store.ts';
import { shownRow } from '../../rows.ts';
import { withLimits } from './limits.ts';

/** The object of the API less its life. */
export type EnvironmentBody = {
  type: 'environment';
  id: string;
  name: string;
  description: string | null;
  config: EnvironmentConfig;
  metadata: Record<string, string>;
  scope: 'organization';
};

export function environmentBody(
  id: string,
  params: z.infer<typeof environmentCreateParams>,
): EnvironmentBody {
  return {
    type: 'environment',
    id,
    name: params.name,
    description: params.description ?? null,
    config: withLimits(mergedConfig(defaultConfig, params.config), params.config),
    metadata: params.metadata ?? {},
    scope: 'organization',
  };
}

export function updatedEnvironment(
  before: EnvironmentBody,
  params: z.infer<typeof environmentUpdateParams>,
): EnvironmentBody {
  // Environments delete a metadata key on `""` too (§1.11).
  const patch = Object.entries(params.metadata ?? {}).map(
    ([key, value]) => [key, value === '' ? null : value] as const,
  );
  return {
    ...before,
    name: params.name ?? before.name,
    description: params.description === undefined ? before.description : params.description,
    config: withLimits(mergedConfig(before.config, params.config), params.config),
    metadata: patchMetadata(before.metadata, Object.fromEntries(patch)),
  };
}

export function shownEnvironment(row: ResourcePut): JsonObject {
  return { ...shownRow(row), version: row.version, state: row.archivedAt === null ? 'active' : 'archived' };
}
