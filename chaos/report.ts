/** What a buyer asks for, as text and as JSON. Pure. */
import type { JsonObject } from '../src/protocol/json.ts';
import type { Invariant, Violation } from './evidence.ts';
import type { RunOptions, RunResult } from './run.ts';

const promises: Record<Invariant, string> = {
  I1: 'acknowledged inputs lost or doubled',
  I2: 'gaps or repetitions in a log',
  I3: 'owners that wrote out of order',
  I4: 'dangling or doubled results',
  I5: 'results or effects without intent',
  I6: 'effects repeated or misreported',
  I7: 'sessions that did not come to rest',
  I8: 'gaps in what clients saw',
  audit: 'findings of fsck and replay',
  crash: 'processes that ended by themselves',
};

const shownViolations = 20;

export function isHeld(result: RunResult): boolean {
  return result.verdict.violations.length === 0;
}

export function asJson(options: RunOptions, result: RunResult): JsonObject {
  const { verdict, recovery } = result;
  return {
    held: isHeld(result),
    store: options.store,
    seed: options.seed,
    seconds: Math.round(result.attackMs / 1000),
    steps: result.steps,
    sessions: options.sessions,
    inputs_acknowledged: result.acknowledged,
    readers: result.readers,
    connections: result.connections,
    faults: faultsOf(result),
    violations_by_promise: countsOf(verdict.violations),
    in_doubt: verdict.inDoubt,
    results: verdict.results,
    mttr_ms: {
      deaths: result.deaths.length,
      sessions_taken_over: recovery.count,
      p50: Math.round(recovery.p50Ms),
      p99: Math.round(recovery.p99Ms),
      max: Math.round(recovery.maxMs),
      slowest_after: recovery.slowest,
    },
    starts: { count: result.starts, ready_p50_ms: Math.round(middleOf(result.readyMs)) },
    violations: verdict.violations.map((one) => ({ ...one })),
  };
}

export function asText(options: RunOptions, result: RunResult): string {
  const { verdict, recovery } = result;
  const faults = Object.entries(faultsOf(result)).sort();
  const counts = countsOf(verdict.violations);
  const total = faults.reduce((sum, [, count]) => sum + Number(count), 0);
  const row = (name: string, value: string | number): string => `  ${name.padEnd(38)} ${value}`;
  return [
    `${options.store}, seed ${options.seed}: ${result.steps} steps in ${Math.round(result.attackMs / 1000)} s, ${options.sessions} sessions, ${result.acknowledged} inputs acknowledged, ${result.readers} streams over ${result.connections} connections`,
    '',
    `faults injected: ${total}`,
    ...faults.map(([name, count]) => row(name, Number(count))),
    '',
    'promises broken:',
    ...(Object.keys(promises) as Invariant[]).map((name) =>
      row(`${promises[name]} (${name})`, counts[name] ?? 0),
    ),
    '',
    row('calls in doubt (host killed under them)', `${verdict.inDoubt} of ${verdict.results}`),
    row(
      "MTTR: death to the session's next event",
      `p50 ${ms(recovery.p50Ms)}, p99 ${ms(recovery.p99Ms)}, max ${ms(recovery.maxMs)}`,
    ),
    row('', `${recovery.count} sessions taken over; ${recovery.interrupted} more were hit again meanwhile`),
    row('slowest', recovery.slowest ?? 'none'),
    row('starts of processes', `${result.starts}, ready after ${ms(middleOf(result.readyMs))} (p50)`),
    '',
    ...violationLines(verdict.violations),
    isHeld(result)
      ? 'every promise held'
      : `BROKEN. The same attack again: scriptorium chaos --store ${options.store} --seed ${options.seed} --sessions ${options.sessions} --seconds ${options.seconds} --pace ${options.paceMs}`,
  ].join('\n');
}

function middleOf(sorted: readonly number[]): number {
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function ms(value: number): string {
  return `${Math.round(value)} ms`;
}

function violationLines(violations: readonly Violation[]): string[] {
  const lines = violations
    .slice(0, shownViolations)
    .map(({ invariant, session, message }) => `  ${invariant} ${session ?? ''}: ${message}`);
  if (violations.length > shownViolations) lines.push(`  and ${violations.length - shownViolations} more`);
  return lines.length === 0 ? [] : ['what broke:', ...lines, ''];
}

/** By kind; a failpoint that fired counts under its own name. */
function faultsOf({ inflicted, fired }: RunResult): Record<string, number> {
  const faults: Record<string, number> = { ...inflicted };
  for (const name of fired) if (!name.startsWith('sabotage.')) faults[name] = (faults[name] ?? 0) + 1;
  return faults;
}

function countsOf(violations: readonly Violation[]): Partial<Record<Invariant, number>> {
  const counts: Partial<Record<Invariant, number>> = {};
  for (const { invariant } of violations) counts[invariant] = (counts[invariant] ?? 0) + 1;
  return counts;
}
