/** `scriptorium send`: says something to a session, as its next turn or (`--steer`) into the running one. */
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { resolveSession } from './server/sessions.ts';
import type { Terminal } from './terminal/terminal.ts';

export type SendOptions = ServerOptions & { steer?: boolean; json?: boolean };

export async function send(
  typed: string,
  text: string,
  options: SendOptions,
  terminal: Terminal,
): Promise<ExitCode> {
  if (text.trim() === '') throw new Refused('the message is empty', { exitCode: exitCodes.usage });
  const client = await connect({ ...options, terminal });
  const id = await resolveSession(client, typed);
  const message = {
    type: 'user.message',
    content: [{ type: 'text', text }],
    ...(options.steer === true ? { delivery: 'steer' } : {}),
  };
  const sent = await client.post<{ data: { id: string }[] }>(`/v1/sessions/${id}/events`, {
    json: { events: [message] },
  });
  if (options.json === true) terminal.out(JSON.stringify(sent.data[0] ?? null));
  else terminal.err(`sent; watch with: scriptorium attach ${id}`);
  return exitCodes.done;
}
