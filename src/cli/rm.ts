/** `scriptorium rm`: deletes a session, its sandbox and its history. What was not applied is gone. */
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import { ApiRefusal } from './server/client.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { resolveSession } from './server/sessions.ts';
import type { Terminal } from './terminal/terminal.ts';

export async function remove(typed: string, options: ServerOptions, terminal: Terminal): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const id = await resolveSession(client, typed);
  try {
    await client.delete(`/v1/sessions/${id}`);
  } catch (error) {
    const isRunning = error instanceof ApiRefusal && (error.status === 400 || error.status === 409);
    if (!isRunning) throw error;
    throw new Refused(error.message, { hint: `while it runs, stop it first: scriptorium interrupt ${id}` });
  }
  terminal.err(`deleted ${id}`);
  return exitCodes.done;
}
