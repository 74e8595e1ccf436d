/** `scriptorium interrupt`: stops what the agent does now. The session stays and can be spoken to. */
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { resolveSession } from './server/sessions.ts';
import type { Terminal } from './terminal/terminal.ts';

export async function interrupt(
  typed: string,
  options: ServerOptions,
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const id = await resolveSession(client, typed);
  await client.post(`/v1/sessions/${id}/events`, { json: { events: [{ type: 'user.interrupt' }] } });
  terminal.err(`interrupt accepted; go on with: scriptorium send ${id} "…"`);
  return exitCodes.done;
}
