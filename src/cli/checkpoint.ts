/** `scriptorium checkpoint`: keeps the workspace of a session as it is at the end of its turn. */
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import { type CheckpointObject, until } from './server/checkpoints.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { getSession, resolveSession } from './server/sessions.ts';
import type { Terminal } from './terminal/terminal.ts';

export async function checkpoint(
  typed: string,
  options: ServerOptions & { json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const session = await resolveSession(client, typed);
  const asked = await client.post<CheckpointObject>(`/v1/sessions/${session}/checkpoints`);
  const ended = await until(async () => {
    const now = await client.get<CheckpointObject>(`/v1/sessions/${session}/checkpoints/${asked.id}`);
    if (now.status !== 'pending') return now;
    // A turn may last for hours; the checkpoint comes at its end, whether anybody waits or not.
    return (await getSession(client, session)).status === 'idle' ? null : now;
  });
  const made = ended ?? asked;
  if (made.status === 'failed') throw new Refused(`no checkpoint was made: ${made.message}`);
  if (options.json === true) terminal.out(JSON.stringify(made));
  else {
    terminal.out(made.id);
    if (made.status === 'pending') terminal.err('it is made at the end of the turn');
  }
  return exitCodes.done;
}
