/** Ours: checkpoints of a session's workspace, each bound to an event; forks and rollbacks. */
import { z } from 'zod';
import { metadataParam, timestamp } from './fields.ts';
import { initialEventParams } from './input-events.ts';

export const checkpoint = z.looseObject({
  type: z.literal('checkpoint'),
  id: z.string(),
  session_id: z.string(),
  /** `pending`: the turn has not ended yet, or it is being made. */
  status: z.enum(['pending', 'ready', 'failed']),
  reason: z.enum(['turn_end', 'requested']),
  /** The end of the turn that it belongs to; null while that is not known. */
  at_event_id: z.string().nullable(),
  /** False where a rollback left it: it can be forked from, and not be gone back to. */
  is_on_line: z.boolean(),
  driver: z.string().nullable(),
  /** What it takes by itself, where the host knows. */
  size_bytes: z.int().nullable(),
  files: z.int().nullable(),
  took_ms: z.int().nullable(),
  /** Why it could not be made. */
  message: z.string().nullable(),
  created_at: timestamp.nullable(),
});

const id = z.string().min(1).max(100);

export const rollbackParams = z.strictObject({ checkpoint_id: id });

export const rollback = z.looseObject({
  type: z.literal('session_rollback'),
  session_id: z.string(),
  checkpoint_id: z.string(),
  /** Its end is in the log: `session.rolled_back`, or `session.rollback_failed` with the reason. */
  status: z.literal('pending'),
});

export const forkParams = z
  .strictObject({
    checkpoint_id: id.nullish(),
    /** The end of a turn that has a checkpoint, or that came before there was a workspace. */
    event_id: id.nullish(),
    title: z.string().max(1024).nullish(),
    metadata: metadataParam.nullish(),
    initial_events: z.array(initialEventParams).max(50).nullish(),
  })
  .refine((body) => (body.checkpoint_id == null) !== (body.event_id == null), {
    error: 'send either checkpoint_id or event_id',
  });
