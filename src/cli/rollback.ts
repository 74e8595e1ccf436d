/** `scriptorium rollback`: workspace and conversation go back to a checkpoint. */
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import { resolveCheckpoint, until } from './server/checkpoints.ts';
import type { Client } from './server/client.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { type Page, resolveSession } from './server/sessions.ts';
import type { Terminal } from './terminal/terminal.ts';

type Seen = { id: string; type: string; checkpoint_id?: string; message?: string };

export async function rollback(
  typed: string,
  typedCheckpoint: string,
  options: ServerOptions,
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const session = await resolveSession(client, typed);
  const checkpoint = await resolveCheckpoint(client, session, typedCheckpoint);
  const [before] = await newest(client, session);
  await client.post(`/v1/sessions/${session}/rollback`, { json: { checkpoint_id: checkpoint } });
  const end = await until(async () => endOf(await newest(client, session), before, checkpoint));
  if (end === null)
    throw new Refused(
      'the workspace has not been put back yet; the session goes on with it as soon as it can',
      {
        hint: `scriptorium events ${session} shows when`,
      },
    );
  if (end.type === 'session.rollback_failed') throw new Refused(`nothing was changed: ${end.message}`);
  terminal.err(`${session} is back at ${checkpoint}`);
  return exitCodes.done;
}

async function newest(client: Client, session: string): Promise<Seen[]> {
  const query = { order: 'desc', limit: '50' };
  return (await client.get<Page<Seen>>(`/v1/sessions/${session}/events`, { query })).data;
}

/** What has been said of it since the request was made. */
function endOf(events: Seen[], before: Seen | undefined, checkpoint: string): Seen | null {
  const index = events.findIndex(({ id }) => id === before?.id);
  const since = index === -1 ? events : events.slice(0, index);
  const ends = ['session.rolled_back', 'session.rollback_failed'];
  return since.find((one) => ends.includes(one.type) && one.checkpoint_id === checkpoint) ?? null;
}
