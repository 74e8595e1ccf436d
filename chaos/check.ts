/**
 * The judge: what the evidence of a run says about the promises I1 to I8 (docs/operations/durability.md). Pure, and
 * written without looking at how the engine does it, so that both cannot be wrong in the same way.
 */
import type { JsonObject } from '../src/protocol/json.ts';
import { canonicalJson } from '../src/protocol/json.ts';
import type { Call } from './calls.ts';
import { callsOf } from './calls.ts';
import type { Evidence, Frame, Group, Invariant, LogEvent, SessionEvidence, Violation } from './evidence.ts';

type Say = (invariant: Invariant, session: string | null, message: string) => void;

export type Verdict = { violations: Violation[]; inDoubt: number; results: number };

export function check(evidence: Evidence): Verdict {
  const violations: Violation[] = [];
  const say: Say = (invariant, session, message) => violations.push({ invariant, session, message });
  const effects = counted(evidence.effects);
  const calls = new Map(evidence.sessions.map((session) => [session.id, callsOf(session.log)]));
  checkInputs(evidence, say);
  for (const session of evidence.sessions) {
    const own = calls.get(session.id) ?? [];
    checkOrder(session, say);
    checkCalls(session, own, say);
    checkEffects(session, own, effects, say);
    checkDoubts(session, own, evidence, say);
    if (session.unrest !== null) say('I7', session.id, session.unrest);
    checkListed(session, say);
  }
  checkStrangers(calls, effects, say);
  checkReaders(evidence, say);
  for (const audit of evidence.audits) say('audit', null, audit);
  for (const crash of evidence.crashes) say('crash', null, crash);
  const all = [...calls.values()].flat();
  return {
    violations,
    inDoubt: all.filter((call) => call.results.some((result) => result.inDoubt)).length,
    results: all.reduce((sum, call) => sum + call.results.length, 0),
  };
}

function counted(list: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const one of list) counts.set(one, (counts.get(one) ?? 0) + 1);
  return counts;
}

/** I1: an acknowledged input is in the log exactly once, and is taken up. */
function checkInputs({ sessions, inputs }: Evidence, say: Say): void {
  const logs = new Map(sessions.map(({ id, log }) => [id, inputsIn(log)]));
  for (const input of inputs) {
    const { byId, byText, processed } = logs.get(input.session) ?? inputsIn([]);
    const name = input.text ?? 'an answer';
    for (const id of new Set(input.acknowledged)) {
      const count = byId.get(id) ?? 0;
      if (count !== 1)
        say('I1', input.session, `${name} was acknowledged as ${id}, the log has it ${count} times`);
      else if (input.text !== null && !processed.has(id))
        say('I1', input.session, `${name} (${id}) was acknowledged and never taken up`);
    }
    if (input.hasKey && new Set(input.acknowledged).size > 1)
      say('I1', input.session, `${name}: one key was answered with ${input.acknowledged.join(', ')}`);
    if (input.text === null) continue;
    const inLog = byText.get(input.text) ?? 0;
    const most = input.hasKey ? 1 : input.requests;
    if (inLog > most)
      say('I1', input.session, `${name} is in the log ${inLog} times; asked for it was ${most} times`);
  }
}

function inputsIn(log: readonly LogEvent[]) {
  const inputs = log.filter((event) => event.type.startsWith('user.'));
  const processed = log
    .filter((event) => event.type === 'input.processed')
    .flatMap((event) => event.public.event_ids as string[]);
  return {
    byId: counted(inputs.map((event) => event.id)),
    byText: counted(inputs.filter((event) => event.type === 'user.message').map(textOf)),
    processed: new Set(processed),
  };
}

function textOf(event: LogEvent): string {
  return (event.public.content as { text?: string }[]).map((block) => block.text ?? '').join('');
}

/** I2: no gap and no repetition in the sequence. I3: who was an owner before never writes after a later one. */
function checkOrder({ id, log }: SessionEvidence, say: Say): void {
  let fence = 0;
  for (const [index, event] of log.entries()) {
    if (event.seq !== index + 1) {
      say('I2', id, `event ${event.seq} (${event.type}) stands at place ${index + 1}`);
      return;
    }
    if (event.fence === null) continue;
    if (event.fence < fence) say('I3', id, `event ${event.seq} has fence ${event.fence} after ${fence}`);
    fence = Math.max(fence, event.fence);
  }
  const repeated = [...counted(log.map((event) => event.id))].filter(([, count]) => count > 1);
  for (const [event, count] of repeated) say('I2', id, `${event} is in the log ${count} times`);
}

/** I4: every call has exactly one result, every model request one end. I5: no result without an intent before it. */
function checkCalls({ id, log, unrest }: SessionEvidence, calls: readonly Call[], say: Say): void {
  for (const call of calls) {
    const name = `${call.name} ${call.id}`;
    if (call.results.length > 1) say('I4', id, `${name} has ${call.results.length} results`);
    // A session that was still at work may have a call open: that is said as I7.
    if (call.results.length === 0 && unrest === null) say('I4', id, `${name} has no result`);
    if (call.isCustom || call.wasRefused || call.wasInterrupted) continue;
    const first = call.results[0];
    if (first && (call.intentSeq === null || call.intentSeq > first.seq))
      say('I5', id, `${name} has a result at ${first.seq} and no intent before it`);
  }
  const known = new Set(calls.map((call) => call.id));
  for (const event of log) {
    if (event.type === 'agent.tool_result' && !known.has(String(event.public.tool_use_id)))
      say('I4', id, `event ${event.seq} is the result of no call`);
  }
  const starts = log.filter((event) => event.type === 'span.model_request_start').map((event) => event.id);
  const ends = counted(
    log
      .filter((event) => event.type === 'span.model_request_end')
      .map((event) => String(event.public.model_request_start_id)),
  );
  for (const start of starts) {
    const count = ends.get(start) ?? 0;
    if (count > 1 || (count === 0 && unrest === null))
      say('I4', id, `the model request ${start} has ${count} ends`);
  }
}

/** I6: nothing takes effect twice, or unasked; what is said of a call is what happened. I5: no effect without intent. */
function checkEffects(
  { id }: SessionEvidence,
  calls: readonly Call[],
  effects: ReadonlyMap<string, number>,
  say: Say,
): void {
  for (const call of calls) {
    if (call.nonce === null) continue;
    const count = effects.get(call.nonce) ?? 0;
    const name = `${call.nonce} (${call.id})`;
    if (count > 1) say('I6', id, `${name} took effect ${count} times`);
    if (count > 0 && call.intentSeq === null)
      say('I5', id, `${name} took effect without an intent in the log`);
    const result = call.results[0];
    if (!result || result.inDoubt) continue;
    if (count === 0 && !result.isError) say('I6', id, `${name} is said to be done and took no effect`);
    if (count > 0 && result.isError && !call.wasInterrupted)
      say('I6', id, `${name} is said to have failed and took effect`);
  }
}

/**
 * A call may be in doubt only where its host died while it ran, or where a person interrupted it while the host was
 * away: an interrupt does not wait for it.
 */
function checkDoubts(
  { id, log }: SessionEvidence,
  calls: readonly Call[],
  { hostDeaths, clockJumped }: Evidence,
  say: Say,
): void {
  const slackMs = 1_000;
  const places = new Set(
    log.flatMap(({ type, public: said }) => (type === 'sandbox.started' ? [said.host] : [])),
  );
  const deathsMs = hostDeaths.flatMap(({ atMs, host }) => (host === null || places.has(host) ? [atMs] : []));
  for (const call of calls) {
    if (call.wasInterrupted) continue;
    for (const result of call.results) {
      if (!result.inDoubt) continue;
      const isExplained = deathsMs.some(
        (atMs) => clockJumped || (atMs >= call.atMs - slackMs && atMs <= result.atMs + slackMs),
      );
      if (!isExplained) say('I6', id, `${call.name} ${call.id} is in doubt, and its host was not killed`);
    }
  }
}

function checkStrangers(
  calls: ReadonlyMap<string, Call[]>,
  effects: ReadonlyMap<string, number>,
  say: Say,
): void {
  const asked = counted([...calls.values()].flat().flatMap((call) => call.nonce ?? []));
  for (const nonce of effects.keys())
    if (!asked.has(nonce)) say('I5', null, `${nonce} took effect, and no log knows of it`);
  for (const [nonce, count] of asked)
    if (count > 1) say('I6', null, `${nonce} was asked for by ${count} calls`);
}

/** Inputs that wait have no `processed_at` until they are taken up. */
const queued = new Set(['user.message', 'user.interrupt']);

/** What every stream must have sent, position by position. */
export function expectedGroups(log: readonly LogEvent[]): Group[] {
  const byId = new Map(log.map((event) => [event.id, event]));
  const groups: Group[] = [];
  for (const event of log) {
    const frames: Frame[] = [];
    if (event.audience === 'public') frames.push(frameOf(event, queued.has(event.type) ? null : event.time));
    const named = event.type === 'input.processed' ? (event.public.event_ids as string[]) : [];
    for (const name of named) {
      const input = byId.get(name);
      if (input) frames.push(frameOf(input, event.time));
    }
    if (frames.length > 0) groups.push({ seq: event.seq, frames });
  }
  return groups;
}

function frameOf(event: LogEvent, processedAt: string | null): Frame {
  const data: JsonObject = { ...event.public, id: event.id, type: event.type, processed_at: processedAt };
  return { type: event.type, data };
}

/** I8: what a client saw is the log, in order, once each, with nothing missing. */
function checkReaders({ sessions, readers }: Evidence, say: Say): void {
  const expected = new Map(sessions.map((session) => [session.id, expectedGroups(session.log)]));
  for (const reader of readers) {
    const complaint = difference(expected.get(reader.session) ?? [], reader.groups);
    if (complaint !== null) say('I8', reader.session, `${reader.name}: ${complaint}`);
  }
}

function difference(expected: readonly Group[], seen: readonly Group[]): string | null {
  for (const [index, group] of expected.entries()) {
    const got = seen[index];
    if (!got) return `ends before ${group.seq}; ${expected.length - index} positions are missing`;
    if (got.seq > group.seq) return `position ${group.seq} (${group.frames[0]?.type}) is missing`;
    if (got.seq < group.seq) return `position ${got.seq} came where ${group.seq} was due`;
    if (canonicalJson(got.frames as never) !== canonicalJson(group.frames as never))
      return `position ${group.seq} differs from the log`;
  }
  const extra = seen[expected.length];
  return extra ? `position ${extra.seq} is not in the log` : null;
}

function checkListed({ id, log, listed }: SessionEvidence, say: Say): void {
  const takenUpAt = new Map<string, string>();
  for (const event of log)
    if (event.type === 'input.processed')
      for (const name of event.public.event_ids as string[]) takenUpAt.set(name, event.time);
  const expected = log
    .filter((event) => event.audience === 'public')
    .map(
      (event) => frameOf(event, queued.has(event.type) ? (takenUpAt.get(event.id) ?? null) : event.time).data,
    );
  const at = expected.findIndex(
    (view, index) => canonicalJson(view) !== canonicalJson(listed[index] ?? null),
  );
  if (at >= 0 || listed.length !== expected.length)
    say(
      'I8',
      id,
      `the list of the API differs from the log at its ${(at < 0 ? expected.length : at) + 1}th event`,
    );
}
