/**
 * Limits as an engine holds them: what a session's environment asks for, under what the server allows today, and the
 * events of what ran into one (sandbox/limits.ts).
 */
import type { LimitValues } from '../protocol/limits.ts';
import { limitNames } from '../protocol/limits.ts';
import type { LimitHit, Limits } from '../sandbox/executor.ts';
import type { Draft } from '../session/events.ts';
import type { SessionConfig, SessionState } from '../session/state.ts';
import { limitWords } from '../tools/limit-words.ts';
import type { Mint } from './draft.ts';
import { draft } from './draft.ts';

/** A maximum that was lowered since the session began holds for it, too: its next sandbox has less. */
export function limitsFor(base: Limits, maxima: LimitValues, config: SessionConfig): Limits {
  const asked = (config.environment as { config?: { limits?: LimitValues } }).config?.limits ?? {};
  const values: LimitValues = {};
  for (const name of limitNames) {
    const value = asked[name];
    if (typeof value === 'number') values[name] = Math.min(value, maxima[name] ?? value);
  }
  const memoryBytes = values.memory_bytes ?? base.memoryBytes;
  return {
    ...base,
    memoryBytes,
    // What lies in a tmpfs is charged as memory: were there room for all of it, one file could take it for good.
    tmpBytes: Math.min(base.tmpBytes, Math.floor(memoryBytes / 2)),
    processes: values.processes ?? base.processes,
    openFiles: values.open_files ?? base.openFiles,
    ...given('cpuCores', values.cpu_cores),
    ...given('diskBytes', values.disk_bytes),
    ...given('outputBytes', values.output_bytes),
    ...given('wallTimeMs', values.wall_time_ms),
    ...given('idleTimeMs', values.idle_time_ms),
    ...given('lifetimeMs', values.lifetime_ms),
  };
}

function given(name: keyof Limits, value: number | undefined): Partial<Limits> {
  return value === undefined ? {} : { [name]: value };
}

/** `call` null: nobody can say of which call it was. */
export function limitDrafts(
  hits: readonly LimitHit[],
  call: string | null,
  state: SessionState,
  mint: Mint,
): Draft[] {
  return hits.map((hit) =>
    draft(
      mint,
      state,
      'sandbox.limit_reached',
      {
        limit: hit.limit,
        value: hit.value,
        amount: hit.amount,
        call_id: call,
        message: limitWords(hit),
        at: new Date(hit.atMs).toISOString(),
      },
      call === null ? {} : { call, causation: call },
    ),
  );
}
