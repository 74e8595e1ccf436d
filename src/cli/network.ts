/** `scriptorium network`: what a session reached and what it was refused; and a person's word on a host. */
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { SessionEvent } from './server/follow.ts';
import { listAll } from './server/pages.ts';
import { resolveSession } from './server/sessions.ts';
import type { Terminal } from './terminal/terminal.ts';
import { oneLine } from './terminal/text.ts';

export type NetworkOptions = ServerOptions & {
  allow?: boolean;
  deny?: boolean;
  port?: string;
  json?: boolean;
};

export async function network(
  typed: string,
  host: string | undefined,
  options: NetworkOptions,
  terminal: Terminal,
): Promise<ExitCode> {
  const result = answerOf(host, options);
  const client = await connect({ ...options, terminal });
  const id = await resolveSession(client, typed);
  if (host !== undefined && result !== null) {
    const port = options.port === undefined ? {} : { port: Number(options.port) };
    const event = { type: 'user.network_access', host, ...port, result };
    await client.post(`/v1/sessions/${id}/events`, { json: { events: [event] } });
    terminal.err(`${host} is ${result === 'allow' ? 'let through' : 'refused'} from now on`);
    return exitCodes.done;
  }
  const query = { 'types[]': 'network.decision' };
  const seen = await listAll<SessionEvent>(client, `/v1/sessions/${id}/events`, query);
  if (seen.length === 0) terminal.err('nothing of this session has asked for the network');
  for (const event of seen) terminal.out(options.json === true ? JSON.stringify(event) : lineOf(event));
  return exitCodes.done;
}

function answerOf(host: string | undefined, { allow, deny }: NetworkOptions): 'allow' | 'deny' | null {
  const usage = { exitCode: exitCodes.usage };
  if (allow === true && deny === true) throw new Refused('say --allow or --deny, not both', usage);
  if (host === undefined && (allow === true || deny === true)) throw new Refused('name the host', usage);
  if (host !== undefined && allow !== true && deny !== true)
    throw new Refused(`say --allow or --deny for ${host}`, usage);
  return allow === true ? 'allow' : deny === true ? 'deny' : null;
}

function lineOf(event: SessionEvent): string {
  const place = oneLine(`${event.host}${event.port === null ? '' : `:${event.port}`}`, 60);
  const why = event.decision === 'allowed' ? `rule ${event.rule}` : event.reason;
  const bytes = `${event.bytes_sent} B out, ${event.bytes_received} B in`;
  return [
    String(event.decision).padEnd(8),
    place.padEnd(40),
    `${event.count}×`,
    bytes,
    oneLine(String(why), 80),
  ].join('  ');
}
