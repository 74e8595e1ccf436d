/** The session resource as commands use it; members the command line does not read are left out. */
import { Refused } from '../ending.ts';
import type { Client } from './client.ts';

export type SessionObject = {
  id: string;
  status: 'idle' | 'running' | 'rescheduling' | 'terminated';
  title: string | null;
  agent: { id: string; version: number; name: string; model: { id: string } };
  metadata: Record<string, string>;
  resources: { type: string; branch?: string | null; head?: string | null; mount_path?: string }[];
  usage: {
    input_tokens: number;
    output_tokens: number;
    cache_read_input_tokens: number;
    cost_micros?: number | null;
  };
  stop_reason: { type: string; event_ids?: string[] } | null;
  pending?: string[];
  stats: { active_seconds: number; duration_seconds: number };
  created_at: string;
  updated_at: string;
  archived_at: string | null;
};

export type Page<T> = { data: T[]; next_page: string | null };

export function getSession(client: Client, id: string): Promise<SessionObject> {
  return client.get<SessionObject>(`/v1/sessions/${encodeURIComponent(id)}`);
}

/**
 * The full id for what was typed: the id itself, or the end of one, as `ls` shows it, among the newest sessions.
 * Branches of `apply` are named by it too.
 */
export async function resolveSession(client: Client, typed: string): Promise<string> {
  const query = { limit: '100', include_archived: 'true' };
  return resolveAmong(typed, async () => {
    const page = await client.get<Page<SessionObject>>('/v1/sessions', { query });
    return page.data.map((session) => session.id);
  });
}

/** `newest` gives the ids that an end is looked for among. */
export async function resolveAmong(typed: string, newest: () => Promise<string[]>): Promise<string> {
  if (/^sesn_[0-9A-Z]{26}$/.test(typed)) return typed;
  const wanted = typed.replace(/^sesn_/i, '').toUpperCase();
  if (!/^[0-9A-Z]{4,26}$/.test(wanted))
    throw new Refused(`"${typed}" is not the id of a session`, { exitCode: 2 });
  const found = (await newest()).filter((id) => id.endsWith(wanted));
  const [only, other] = found;
  if (only === undefined)
    throw new Refused(`no session ends in ${typed}`, {
      hint: 'scriptorium ls shows the sessions of this server',
    });
  if (other !== undefined) throw new Refused(`${found.length} sessions end in ${typed}; type more of it`);
  return only;
}

export function shortId(id: string): string {
  return id.slice(-8).toLowerCase();
}

/** What the session waits for, if it waits. */
export function waitsFor(session: SessionObject): string[] {
  if (session.status !== 'idle' || session.stop_reason?.type !== 'requires_action') return [];
  return session.pending ?? session.stop_reason.event_ids ?? [];
}
