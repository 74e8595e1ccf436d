/** `scriptorium fork`: a new session that was this one up to a checkpoint. */
import type { JsonObject } from '../protocol/json.ts';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import { listCheckpoints, resolveCheckpoint } from './server/checkpoints.ts';
import type { Client } from './server/client.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { type Page, resolveSession, type SessionObject } from './server/sessions.ts';
import type { Terminal } from './terminal/terminal.ts';

export type ForkOptions = ServerOptions & { at?: string; message?: string; title?: string; json?: boolean };

export async function fork(typed: string, options: ForkOptions, terminal: Terminal): Promise<ExitCode> {
  const { at, message, title } = options;
  if (message?.trim() === '') throw new Refused('the message is empty', { exitCode: exitCodes.usage });
  const client = await connect({ ...options, terminal });
  const session = await resolveSession(client, typed);
  const content = [{ type: 'text', text: message ?? '' }];
  const made = await client.post<SessionObject>(`/v1/sessions/${session}/fork`, {
    json: {
      ...(await placeOf(client, session, at)),
      ...(title === undefined ? {} : { title }),
      ...(message === undefined ? {} : { initial_events: [{ type: 'user.message', content }] }),
    },
  });
  terminal.out(options.json === true ? JSON.stringify(made) : made.id);
  if (options.json !== true && message !== undefined)
    terminal.err(`watch with: scriptorium attach ${made.id}`);
  return exitCodes.done;
}

/** Without a place: the newest checkpoint, or the end of the last turn. */
async function placeOf(client: Client, session: string, at: string | undefined): Promise<JsonObject> {
  if (at?.startsWith('sevt_')) return { event_id: at };
  if (at !== undefined) return { checkpoint_id: await resolveCheckpoint(client, session, at) };
  const ready = (await listCheckpoints(client, session)).filter(({ status }) => status === 'ready');
  const newest = ready.at(-1);
  if (newest) return { checkpoint_id: newest.id };
  // Where no tool has run there is no workspace, and the end of any turn will do.
  const query = { order: 'desc', limit: '100' };
  const { data } = await client.get<Page<{ id: string; type: string }>>(`/v1/sessions/${session}/events`, {
    query,
  });
  const rest = data.find(({ type }) => type === 'session.status_idle');
  if (rest && !data.some(({ type }) => type === 'sandbox.started')) return { event_id: rest.id };
  throw new Refused('this session has no checkpoint to fork from', {
    hint: `make one with: scriptorium checkpoint ${session}`,
  });
}
