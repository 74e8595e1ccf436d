/** `scriptorium events`: the log of a session, as lines or as JSON, to its end or (`--follow`) for as long as it lives. */

import type { JsonObject } from '../protocol/json.ts';
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { SessionEvent } from './server/follow.ts';
import { follow } from './server/follow.ts';
import type { Page } from './server/sessions.ts';
import { resolveSession } from './server/sessions.ts';
import { summaryOf, textOf } from './terminal/narrate.ts';
import type { Terminal } from './terminal/terminal.ts';
import { oneLine } from './terminal/text.ts';

export type EventsOptions = ServerOptions & { json?: boolean; follow?: boolean; operator?: boolean };

export async function events(typed: string, options: EventsOptions, terminal: Terminal): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const id = await resolveSession(client, typed);
  const print = (event: SessionEvent) =>
    terminal.out(options.json === true ? JSON.stringify(event) : lineOf(event, terminal));
  if (options.follow === true) {
    const leaving = new AbortController();
    process.once('SIGINT', () => leaving.abort());
    for await (const item of follow(client, id, { after: 0, previews: false, signal: leaving.signal }))
      if (item.kind === 'event') print(item.event);
    return leaving.signal.aborted ? exitCodes.interrupted : exitCodes.done;
  }
  for (let page: string | null | undefined; page !== null; ) {
    const query = { limit: '500', page, ...(options.operator === true ? { audience: 'operator' } : {}) };
    const got: Page<SessionEvent> = await client.get(`/v1/sessions/${id}/events`, { query });
    for (const event of got.data) print(event);
    page = got.next_page;
  }
  return exitCodes.done;
}

function lineOf(event: SessionEvent, terminal: Terminal): string {
  const time = event.processed_at?.slice(11, 23) ?? 'waiting     ';
  const detail = oneLine(detailOf(event), Math.max(40, terminal.columns - 50));
  return `${terminal.paint('dim', time)}  ${oneLine(event.type, 32).padEnd(32)} ${detail}`.trimEnd();
}

function detailOf(event: SessionEvent): string {
  if (Array.isArray(event.content))
    return `${event.is_error === true ? 'error: ' : ''}${textOf(event.content)}`;
  if (event.type === 'agent.tool_use' || event.type === 'agent.custom_tool_use')
    return `${String(event.name)} ${summaryOf(String(event.name), event.input as JsonObject)}`;
  const { id: _id, type: _type, processed_at: _at, ...rest } = event;
  return Object.keys(rest).length === 0 ? '' : JSON.stringify(rest);
}
