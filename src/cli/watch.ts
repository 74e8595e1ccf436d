/**
 * Stays with a session until it rests: tells what happens, asks for confirmations where somebody can answer, and
 * understands Ctrl-C (once: leave; twice within two seconds: interrupt the agent).
 *
 * Promise: leaving never stops the agent, and says how to come back.
 */
import type { JsonObject } from '../protocol/json.ts';
import { Refused } from './ending.ts';
import type { Client } from './server/client.ts';
import { ApiRefusal } from './server/client.ts';
import type { SessionEvent } from './server/follow.ts';
import { follow } from './server/follow.ts';
import type { Page, SessionObject } from './server/sessions.ts';
import { getSession } from './server/sessions.ts';
import { askForConfirmation } from './terminal/confirm.ts';
import type { Totals } from './terminal/narrate.ts';
import { Narrator } from './terminal/narrate.ts';
import type { Terminal } from './terminal/terminal.ts';
import { safeText } from './terminal/text.ts';

export type Watched = {
  ending:
    | { type: 'idle'; stopReason: string; session: SessionObject }
    | { type: 'terminated'; session: SessionObject }
    | { type: 'deleted' }
    | { type: 'left' };
  wasInterrupted: boolean;
  totals: Totals;
  events: number;
};

export type WatchOptions = {
  terminal: Terminal;
  /** One JSON event per line on stdout, nothing else. */
  json: boolean;
  /** Sequence in the log after which to begin. */
  after: number;
};

const SECOND_PRESS_MS = 2_000;

export async function watch(client: Client, session: string, options: WatchOptions): Promise<Watched> {
  const narrator = new Narrator(options.terminal);
  const leaving = new AbortController();
  const keys = listenForInterrupt(client, session, options.terminal, leaving);
  const toolUses = new Map<string, SessionEvent>();
  let events = 0;
  const ended = (ending: Watched['ending']): Watched => ({
    ending,
    wasInterrupted: keys.wasInterrupted(),
    totals: narrator.totals,
    events,
  });
  try {
    const stream = follow(client, session, {
      after: options.after,
      previews: !options.json,
      signal: leaving.signal,
    });
    for await (const item of stream) {
      if (options.json && item.kind === 'event') options.terminal.out(JSON.stringify(item.event));
      if (!options.json) narrator.show(item);
      if (item.kind !== 'event') continue;
      events += 1;
      const { event } = item;
      if (event.type === 'agent.tool_use' || event.type === 'agent.custom_tool_use')
        toolUses.set(event.id, event);
      if (event.type === 'session.deleted') return ended({ type: 'deleted' });
      if (event.type === 'session.status_terminated')
        return ended({ type: 'terminated', session: await getSession(client, session) });
      if (event.type !== 'session.status_idle') continue;
      const resting = await restingAt(client, session, event);
      if (resting === null) continue;
      if (resting.stop_reason?.type === 'requires_action' && !options.json && !options.terminal.isPlain) {
        const waiting = (resting.stop_reason.event_ids ?? []).flatMap((id) => toolUses.get(id) ?? []);
        narrator.hold(true);
        const isAnswered = await confirmAll(client, session, waiting, options.terminal, leaving.signal);
        narrator.hold(false);
        if (isAnswered) continue;
      }
      return ended({ type: 'idle', stopReason: resting.stop_reason?.type ?? 'end_turn', session: resting });
    }
    return ended({ type: 'left' });
  } finally {
    leaving.abort();
    keys.stop();
    narrator.stop();
  }
}

/** The session, if it rests and this is the event that says so; an older idle of the log is followed by more. */
async function restingAt(
  client: Client,
  session: string,
  event: SessionEvent,
): Promise<SessionObject | null> {
  const found = await getSession(client, session);
  if (found.status === 'running' || found.status === 'rescheduling') return null;
  const query = { 'types[]': 'session.status_idle', order: 'desc', limit: '1' };
  const page = await client.get<Page<SessionEvent>>(`/v1/sessions/${session}/events`, { query });
  return page.data[0]?.id === event.id ? found : null;
}

/** True where every waiting call was answered here. Custom tools are a client's to answer. */
async function confirmAll(
  client: Client,
  session: string,
  waiting: readonly SessionEvent[],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<boolean> {
  if (waiting.length === 0 || waiting.some((event) => event.type !== 'agent.tool_use')) return false;
  for (const event of waiting) {
    const answer = await askForConfirmation(String(event.name), event.input as JsonObject, terminal, signal);
    if (answer === null) return false;
    const confirmation = { type: 'user.tool_confirmation', tool_use_id: event.id, ...answer };
    try {
      await client.post(`/v1/sessions/${session}/events`, { json: { events: [confirmation] } });
    } catch (error) {
      // Somebody else may have answered meanwhile; the stream tells how it goes on.
      if (!(error instanceof ApiRefusal) || error.status !== 400) throw error;
      terminal.err(`your answer was not taken: ${safeText(error.message)}`);
    }
  }
  return true;
}

function listenForInterrupt(client: Client, session: string, terminal: Terminal, leaving: AbortController) {
  let timer: NodeJS.Timeout | null = null;
  let wasInterrupted = false;
  const onSignal = () => {
    if (timer === null && !wasInterrupted) {
      terminal.err(`\nleaving; the agent goes on. Ctrl-C again within two seconds interrupts it.`);
      timer = setTimeout(() => leaving.abort(), SECOND_PRESS_MS);
      return;
    }
    if (timer !== null) clearTimeout(timer);
    timer = null;
    // A third press leaves without waiting for the agent to stop.
    if (wasInterrupted) return leaving.abort();
    wasInterrupted = true;
    terminal.err('interrupting the agent …');
    client
      .post(`/v1/sessions/${session}/events`, { json: { events: [{ type: 'user.interrupt' }] } })
      .catch((error: unknown) => {
        const why = error instanceof Refused ? error.message : String(error);
        terminal.err(`the interrupt was not accepted: ${why}`);
      });
  };
  process.on('SIGINT', onSignal);
  return {
    wasInterrupted: () => wasInterrupted,
    stop: () => {
      if (timer !== null) clearTimeout(timer);
      process.removeListener('SIGINT', onSignal);
    },
  };
}
