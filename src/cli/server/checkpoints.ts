/** Checkpoints as commands use them: found by what was typed, waited for while they are made. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Refused } from '../ending.ts';
import type { Client } from './client.ts';
import type { Page } from './sessions.ts';

export type CheckpointObject = {
  id: string;
  status: 'pending' | 'ready' | 'failed';
  reason: 'turn_end' | 'requested';
  at_event_id: string | null;
  is_on_line: boolean;
  driver: string | null;
  size_bytes: number | null;
  took_ms: number | null;
  message: string | null;
  created_at: string | null;
};

/** Between two looks, and for how long one looks at most. */
const pauseMs = 100;
export const waitMs = 60_000;

export async function listCheckpoints(client: Client, session: string): Promise<CheckpointObject[]> {
  const { data } = await client.get<Page<CheckpointObject>>(`/v1/sessions/${session}/checkpoints`);
  return data;
}

/** The id for what was typed: the id itself, or the end of one. */
export async function resolveCheckpoint(client: Client, session: string, typed: string): Promise<string> {
  if (/^ckpt_[0-9A-Z]{26}$/.test(typed)) return typed;
  const wanted = typed.replace(/^ckpt_/i, '').toUpperCase();
  const found = (await listCheckpoints(client, session)).filter(({ id }) => id.endsWith(wanted));
  const [only, other] = found;
  if (wanted.length < 4 || only === undefined)
    throw new Refused(`no checkpoint ends in ${typed}`, {
      hint: `scriptorium checkpoints ${session} shows them`,
    });
  if (other !== undefined) throw new Refused(`${found.length} checkpoints end in ${typed}; type more of it`);
  return only.id;
}

/** Asks again until there is an answer; null where the time is up. */
export async function until<T>(look: () => Promise<T | null>): Promise<T | null> {
  for (const endMs = Date.now() + waitMs; ; await sleep(pauseMs)) {
    const found = await look();
    if (found !== null || Date.now() > endMs) return found;
  }
}
