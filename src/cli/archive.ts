/** `scriptorium archive`: ends a session for good and keeps its history. */
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { resolveSession } from './server/sessions.ts';
import type { Terminal } from './terminal/terminal.ts';

export async function archive(typed: string, options: ServerOptions, terminal: Terminal): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const id = await resolveSession(client, typed);
  await client.post(`/v1/sessions/${id}/archive`);
  terminal.err(`archived ${id}`);
  return exitCodes.done;
}
