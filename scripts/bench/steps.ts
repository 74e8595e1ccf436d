/**
 * What a step costs: a trivial bash call, from the model's answer to the next request, less the peer's own time.
 * Nobody watches the session meanwhile; what a watcher adds is a figure of its own.
 */
import { get } from 'node:http';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import type { PeerRecord } from './peer.ts';
import type { Peer } from './peer-process.ts';
import type { LogEvent, Server } from './server-process.ts';
import { mean, median } from './stats.ts';

export type StepsPlan = { steps: number; longSteps: number };

export async function measureSteps(server: Server, peer: Peer, plan: StepsPlan): Promise<Figure[]> {
  await server.run(await server.createSession(), { steps: '20' });
  await peer.records();
  const session = await server.createSession();
  await server.run(session, { steps: String(plan.steps) });
  const records = await peer.records();
  const overheads = overheadsOf(records);
  const strict = strictOverheadsOf(records);
  const log = await server.events(session);
  const watched = await measureWatched(server, peer, plan.steps);
  return [
    figure('step: wall less model, bash `true`', 'ms', overheads.slice(1), {
      target: 8,
      note: `aim 5; mean ${mean(overheads.slice(1)).toFixed(2)}; first step with its sandbox ${overheads[0]?.toFixed(0)} ms; counting the peer's stream end as ours, too: ${median(strict.slice(1)).toFixed(2)}`,
    }),
    figure('  same, with one SSE reader', 'ms', watched),
    ...breakdown(log),
  ];
}

/** Gaps between answers and next requests; one per step. */
export function overheadsOf(records: readonly PeerRecord[]): number[] {
  return records.slice(1).map((record, at) => {
    const before = records[at] as PeerRecord;
    return record.receivedAtMs - before.receivedAtMs - before.serviceMs;
  });
}

/** The same with the peer's clock stopped at its last write: what we do while it still closes the stream counts. */
function strictOverheadsOf(records: readonly PeerRecord[]): number[] {
  return records.slice(1).map((record, at) => record.receivedAtMs - (records[at] as PeerRecord).answeredAtMs);
}

async function measureWatched(server: Server, peer: Peer, steps: number): Promise<number[]> {
  const session = await server.createSession();
  const reading = await openStream(server, session);
  await server.run(session, { steps: String(steps) });
  reading.close();
  return overheadsOf(await peer.records()).slice(1);
}

function openStream(server: Server, session: string): Promise<{ close(): void }> {
  return new Promise((resolve, reject) => {
    const url = new URL(`/v1/sessions/${session}/events/stream`, server.url);
    const call = get(url, { headers: server.headers, agent: false }, (response) => {
      response.resume();
      if (response.statusCode === 200) resolve({ close: () => call.destroy() });
      else reject(new Error(`the stream answered ${response.statusCode}`));
    });
    call.on('error', reject);
  });
}

/** The log's clock ticks in whole milliseconds: means over many steps say more than it does, single ones do not. */
function breakdown(log: readonly LogEvent[]): Figure[] {
  const durations = log.flatMap(({ type, durationMs }) =>
    type === 'agent.tool_result' && durationMs !== null ? [durationMs] : [],
  );
  if (durations.length < 2) return [];
  return [
    figure('  of it the tool act, by the log', 'ms', durations.slice(1), {
      note: `mean ${mean(durations.slice(1)).toFixed(2)} (the log counts whole milliseconds)`,
    }),
  ];
}

const lateSteps = 40;
const lastEarlyStep = 34;

/** Medians over windows: the last steps of a long session, and steps 5 to 34 of a fresh one. */
export async function measureRatio(
  server: Server,
  peer: Peer,
  plan: StepsPlan,
): Promise<{ figures: Figure[]; session: string }> {
  await peer.records();
  const session = await server.createSession();
  await server.run(session, { steps: String(plan.longSteps) });
  const records = await peer.records();
  const overheads = overheadsOf(records);
  const late = overheads.slice(-lateSteps);
  // Right after it and not before: a machine that others use is not the same a minute later.
  await server.run(await server.createSession(), { steps: String(lastEarlyStep) });
  const early = overheadsOf(await peer.records()).slice(4);
  const bodyKb = (records.at(-1)?.bodyBytes ?? 0) / 1024;
  const quarter = Math.floor(overheads.length / 4);
  const middle = [1, 2, 3].map((at) =>
    median(overheads.slice(at * quarter - 20, at * quarter + 20)).toFixed(2),
  );
  const medians = `${median(early).toFixed(2)} → ${median(late).toFixed(2)} ms`;
  const figures = [
    figure(`step ~${plan.longSteps} to step ~10`, 'x', [median(late) / median(early)], {
      target: 1.2,
      note: `medians of ${early.length} and ${late.length} steps: ${medians} (at ¼, ½, ¾: ${middle.join(', ')}); the last request has ${bodyKb.toFixed(0)} KB`,
    }),
  ];
  return { figures, session };
}
