/** `scriptorium attach`: tells what a session did so far, then stays with it until it rests. */
import type { ExitCode } from './ending.ts';
import { conclude } from './result.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { getSession, resolveSession } from './server/sessions.ts';
import type { Terminal } from './terminal/terminal.ts';
import { oneLine } from './terminal/text.ts';
import { watch } from './watch.ts';

export type AttachOptions = ServerOptions & { json?: boolean };

export async function attach(typed: string, options: AttachOptions, terminal: Terminal): Promise<ExitCode> {
  const startMs = Date.now();
  const client = await connect({ ...options, terminal });
  const id = await resolveSession(client, typed);
  const session = await getSession(client, id);
  const json = options.json === true;
  if (!json) terminal.err(`${terminal.paint('bold', `session ${id}`)} ${oneLine(session.title ?? '', 80)}`);
  // One that never ran has no event that says it rests, and would be waited for without end.
  const hasRun = session.stop_reason !== null || session.status !== 'idle';
  if (!hasRun) {
    terminal.err(`it has not begun; say what to do with: scriptorium send ${id} "…"`);
    return 0;
  }
  const watched = await watch(client, id, { terminal, json, after: 0 });
  return conclude(client, id, watched, { terminal, json, tookMs: Date.now() - startMs });
}
