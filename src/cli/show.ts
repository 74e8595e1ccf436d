/** `scriptorium show`: one session in a screenful: what, where, how far, what it waits for, what it changed. */

import type { JsonObject } from '../protocol/json.ts';
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';
import { statusOf } from './ls.ts';
import { getDiff, printDiff } from './result.ts';
import type { Client } from './server/client.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { SessionEvent } from './server/follow.ts';
import type { Page, SessionObject } from './server/sessions.ts';
import { getSession, resolveSession, waitsFor } from './server/sessions.ts';
import { ago, duration, money, tokens } from './terminal/figures.ts';
import { summaryOf, textOf } from './terminal/narrate.ts';
import type { Terminal } from './terminal/terminal.ts';
import { oneLine, safeText } from './terminal/text.ts';

export type ShowOptions = ServerOptions & { json?: boolean; diff?: boolean };

export async function show(typed: string, options: ShowOptions, terminal: Terminal): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const id = await resolveSession(client, typed);
  const session = await getSession(client, id);
  const diff = options.diff === false ? null : await getDiff(client, id);
  if (options.json === true) {
    terminal.out(JSON.stringify({ ...session, diff: diff?.diff ?? null }));
    return exitCodes.done;
  }
  for (const [name, value] of await rowsOf(client, session))
    terminal.out(`${terminal.paint('dim', name.padEnd(9))} ${value}`);
  const said = await lastWords(client, id);
  if (said !== '') terminal.out(`\n${safeText(said).trim()}`);
  if (diff !== null && diff.diff !== '') {
    terminal.out('');
    printDiff(terminal, diff.diff);
  }
  return exitCodes.done;
}

async function rowsOf(client: Client, session: SessionObject): Promise<[string, string][]> {
  const { usage } = session;
  const input = usage.input_tokens + usage.cache_read_input_tokens;
  const cost = usage.cost_micros === undefined ? '' : `, ${money(usage.cost_micros)}`;
  const repository = session.resources.find((resource) => resource.type === 'repository');
  const rows: [string, string][] = [
    ['session', session.id],
    ['title', oneLine(session.title ?? '(none)', 100)],
    ['status', statusOf(session)],
    ['agent', oneLine(`${session.agent.name} v${session.agent.version}, ${session.agent.model.id}`, 100)],
    ['created', ago(session.created_at, Date.now())],
    ['worked', duration(session.stats.active_seconds * 1_000)],
    ['used', `${tokens(input)} tokens in, ${tokens(usage.output_tokens)} out${cost}`],
  ];
  if (repository)
    rows.push([
      'repository',
      oneLine(`${repository.branch ?? 'detached'} at ${repository.head?.slice(0, 10) ?? 'no commit'}`, 100),
    ]);
  for (const waiting of await pendingCalls(client, session))
    rows.push(['waits for', `${waiting.id}: ${oneLine(waiting.what, 100)}`]);
  return rows;
}

/** The calls a session waits for, with what they would do. */
export async function pendingCalls(
  client: Client,
  session: SessionObject,
): Promise<{ id: string; what: string; event: SessionEvent | null }[]> {
  const ids = waitsFor(session);
  if (ids.length === 0) return [];
  const query = { 'types[]': ['agent.tool_use', 'agent.custom_tool_use'], order: 'desc', limit: '200' };
  const page = await client.get<Page<SessionEvent>>(`/v1/sessions/${session.id}/events`, { query });
  return ids.map((id) => {
    const event = page.data.find((one) => one.id === id) ?? null;
    const name = String(event?.name ?? 'a call');
    const kind = event?.type === 'agent.custom_tool_use' ? ' (custom tool: your client answers)' : '';
    return { id, event, what: `${name} ${summaryOf(name, event?.input as JsonObject | undefined)}${kind}` };
  });
}

async function lastWords(client: Client, id: string): Promise<string> {
  const query = { 'types[]': 'agent.message', order: 'desc', limit: '1' };
  const page = await client.get<Page<SessionEvent>>(`/v1/sessions/${id}/events`, { query });
  return textOf(page.data[0]?.content);
}
