/** `scriptorium ls`: the sessions of a server, newest first. */
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { Page, SessionObject } from './server/sessions.ts';
import { shortId, waitsFor } from './server/sessions.ts';
import { ago, money } from './terminal/figures.ts';
import type { Terminal } from './terminal/terminal.ts';
import { oneLine } from './terminal/text.ts';

export type LsOptions = ServerOptions & { all?: boolean; limit?: string; json?: boolean };

export async function ls(options: LsOptions, terminal: Terminal): Promise<ExitCode> {
  const limit = options.limit ?? '20';
  if (!/^\d{1,3}$/.test(limit) || Number(limit) < 1 || Number(limit) > 100)
    throw new Refused('--limit is a number from 1 to 100', { exitCode: exitCodes.usage });
  const client = await connect({ ...options, terminal });
  const query = { limit, ...(options.all === true ? { include_archived: 'true' } : {}) };
  const page = await client.get<Page<SessionObject>>('/v1/sessions', { query });
  if (options.json === true) {
    for (const session of page.data) terminal.out(JSON.stringify(session));
    return exitCodes.done;
  }
  if (page.data.length === 0) terminal.err('no sessions yet; start one with: scriptorium run "…" --repo .');
  for (const session of page.data) terminal.out(lineOf(session, terminal));
  if (page.next_page !== null) terminal.err(terminal.paint('dim', 'there are more; --limit shows up to 100'));
  return exitCodes.done;
}

function lineOf(session: SessionObject, terminal: Terminal): string {
  const status = statusOf(session);
  const style = status === 'running' ? 'cyan' : status === 'waits for you' ? 'yellow' : 'dim';
  const cost = session.usage.cost_micros === undefined ? '' : money(session.usage.cost_micros);
  return [
    terminal.paint('bold', shortId(session.id)),
    terminal.paint(style, status.padEnd(13)),
    ago(session.created_at, Date.now()).padEnd(12),
    cost.padEnd(13),
    oneLine(session.title ?? '(no title)', 70),
  ].join('  ');
}

export function statusOf(session: SessionObject): string {
  if (session.archived_at !== null) return 'archived';
  if (session.status === 'rescheduling') return 'retrying';
  if (session.status !== 'idle') return session.status;
  if (waitsFor(session).length > 0) return 'waits for you';
  const reason = session.stop_reason?.type;
  if (reason === 'retries_exhausted') return 'failed';
  return reason === 'refusal' ? 'refused' : 'idle';
}
