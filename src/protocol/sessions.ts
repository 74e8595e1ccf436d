/** Sessions (managed-agents-protocol.md §4, §6.3): params, and the object as it is shown. */
import { z } from 'zod';
import { agentReference, sessionAgent } from './agents.ts';
import { metadata, metadataParam, metadataPatch, timestamp, unavailable } from './fields.ts';
import { initialEventParams } from './input-events.ts';
import { maxVaultsOfSession } from './vaults.ts';

export const sessionStatuses = ['idle', 'running', 'rescheduling', 'terminated'] as const;

const mountPath = z
  .string()
  .min(1)
  .max(1024)
  .refine(
    (path) => !path.split('/').some((part) => part === '..' || part === '.'),
    'must not contain . or ..',
  )
  .refine((path) => !/[\0-\x1f\x7f]/.test(path), 'must not contain control characters');

const fileResourceParams = z.strictObject({
  type: z.literal('file'),
  file_id: z.string().min(1),
  mount_path: mountPath.nullish(),
});

const refName = z
  .string()
  .min(1)
  .max(255)
  .regex(/^(?!-)(?!.*\.\.)(?!.*\/\/)(?!\/)[\x21-\x7e]+$/, 'is not a git ref name')
  .refine((ref) => !/[~^:?*[\\]|@\{|\.lock$|[/.]$/.test(ref), 'is not a git ref name');

/** Ours: a repository as it lies on the client's disk, uploaded as a git bundle. */
const repositoryResourceParams = z.strictObject({
  type: z.literal('repository'),
  file_id: z.string().min(1),
  mount_path: z.literal('/workspace').nullish(),
  branch: refName.nullish(),
  head: z
    .string()
    .regex(/^[0-9a-f]{40}([0-9a-f]{24})?$/, 'is not a commit id')
    .nullish(),
  snapshot_ref: refName,
});

const resourceRefusals: Record<string, string> = {
  github_repository: unavailable(
    'github_repository is',
    'upload a git bundle as a file and mount it as "repository"',
  ),
  memory_store: unavailable('memory stores are', 'mount a file'),
};

const resourceParams = z.discriminatedUnion('type', [fileResourceParams, repositoryResourceParams], {
  error: (issue) => {
    const type = (issue.input as { type?: unknown } | null)?.type;
    return typeof type === 'string' && Object.hasOwn(resourceRefusals, type)
      ? resourceRefusals[type]
      : undefined;
  },
});

const vaultIds = z
  .array(z.string().min(1).max(100))
  .max(maxVaultsOfSession)
  .refine((ids) => new Set(ids).size === ids.length, 'names a vault twice');
const noVaults = z
  .array(z.unknown())
  .max(0, { error: () => unavailable('changing the vaults of a session is', 'create a new session') });
const noBudget = z.null({ error: () => unavailable('session budgets are', 'leave budget out') });

const title = z.string().max(1024);

export const sessionCreateParams = z.strictObject({
  agent: agentReference,
  environment_id: z.string().min(1),
  title: title.nullish(),
  metadata: metadataParam.nullish(),
  resources: z
    .array(resourceParams)
    .max(500)
    .refine((all) => all.filter((one) => one.type === 'repository').length <= 1, 'at most one repository')
    .nullish(),
  vault_ids: vaultIds.nullish(),
  budget: noBudget.optional(),
  initial_events: z.array(initialEventParams).max(50).nullish(),
});

export const sessionUpdateParams = z.strictObject({
  title: title.nullish(),
  metadata: metadataPatch.nullish(),
  agent: z
    .null({ error: () => unavailable('changing the agent of a session is', 'create a new session') })
    .optional(),
  vault_ids: noVaults.nullish(),
  budget: noBudget.optional(),
});

export const sessionResource = z.looseObject({
  type: z.enum(['file', 'repository']),
  id: z.string(),
  file_id: z.string(),
  mount_path: z.string(),
  created_at: timestamp,
  updated_at: timestamp,
});

export const sessionUsage = z.looseObject({
  input_tokens: z.int(),
  output_tokens: z.int(),
  cache_read_input_tokens: z.int(),
  cache_creation: z.looseObject({ ephemeral_5m_input_tokens: z.int(), ephemeral_1h_input_tokens: z.int() }),
  active_seconds: z.number(),
  /** Minor units as a decimal string; null where a model's price is not known. */
  list_cost: z.looseObject({ amount: z.string(), currency: z.literal('USD') }).nullable(),
  /** Ours: the same, in millionths of a US dollar. */
  cost_micros: z.int().nullable(),
});

export const stopReason = z.looseObject({ type: z.string(), event_ids: z.array(z.string()).optional() });

export const sessionStats = z.looseObject({ active_seconds: z.number(), duration_seconds: z.number() });

export const session = z.looseObject({
  type: z.literal('session'),
  id: z.string(),
  status: z.enum(sessionStatuses),
  title: z.string().nullable(),
  agent: sessionAgent,
  environment_id: z.string(),
  deployment_id: z.null(),
  metadata,
  resources: z.array(sessionResource),
  vault_ids: z.array(z.string()),
  budget: z.null(),
  outcome_evaluations: z.array(z.unknown()),
  usage: sessionUsage,
  stats: sessionStats,
  /** Ours: why the session is idle; the protocol has it only in the last session.status_idle. */
  stop_reason: stopReason.nullable(),
  created_at: timestamp,
  updated_at: timestamp,
  archived_at: timestamp.nullable(),
  /** Ours: the session that this one was up to a checkpoint; absent where it is no fork. */
  forked_from: z
    .looseObject({ session_id: z.string(), event_id: z.string(), checkpoint_id: z.string().nullable() })
    .optional(),
});

export const sessionThread = z.looseObject({
  type: z.literal('session_thread'),
  id: z.string(),
  session_id: z.string(),
  agent: z.looseObject({ type: z.literal('agent'), id: z.string() }),
  status: z.enum(sessionStatuses),
  parent_thread_id: z.null(),
  workflow_run_id: z.null(),
  stats: sessionStats,
  usage: sessionUsage,
  created_at: timestamp,
  updated_at: timestamp,
  archived_at: timestamp.nullable(),
});

export type SessionCreateParams = z.infer<typeof sessionCreateParams>;
export type ResourceParams = z.infer<typeof resourceParams>;
export type Session = z.infer<typeof session>;
