/** `scriptorium checkpoints`: the checkpoints of a session, oldest first, and the events that they belong to. */
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';
import { type CheckpointObject, listCheckpoints } from './server/checkpoints.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { resolveSession } from './server/sessions.ts';
import type { Terminal } from './terminal/terminal.ts';
import { oneLine } from './terminal/text.ts';

export async function checkpoints(
  typed: string,
  options: ServerOptions & { json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const session = await resolveSession(client, typed);
  const all = await listCheckpoints(client, session);
  if (all.length === 0) terminal.err(`none yet; make one with: scriptorium checkpoint ${session}`);
  for (const one of all) terminal.out(options.json === true ? JSON.stringify(one) : lineOf(one));
  return exitCodes.done;
}

function lineOf(one: CheckpointObject): string {
  const size = one.size_bytes === null ? '' : `${Math.ceil(one.size_bytes / 1024)} KiB`;
  const state = one.status === 'ready' && !one.is_on_line ? 'left by a rollback' : one.status;
  const why = one.message === null ? '' : oneLine(one.message, 80);
  const parts = [one.id, one.created_at ?? '', state, one.at_event_id ?? '', one.driver ?? '', size, why];
  return parts.filter((part) => part !== '').join('  ');
}
