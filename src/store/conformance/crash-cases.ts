/** kill -9 of a process that is appending: nothing acknowledged is lost, nothing is torn, the directory opens (L2). */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import type { Store } from '../store.ts';
import type { Cases, Scratch } from './scratch.ts';
import { readAll, tenant } from './scratch.ts';

type Acknowledged = { stream: string; id: string; firstSeq: number };

const script = fileURLToPath(new URL('./append-until-killed.ts', import.meta.url));

/** Runs the child until it has acknowledged `count` appends, kills it, and returns all that were. */
async function acknowledgedBeforeKill(
  scratch: Scratch,
  round: number,
  count: number,
): Promise<Acknowledged[]> {
  const args = [script, scratch.engine.openModule.href, scratch.directory, String(round)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const acknowledged: Acknowledged[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    // The last line may be cut by the kill; only whole ones were surely written.
    if (line.endsWith('}')) acknowledged.push(JSON.parse(line) as Acknowledged);
    if (acknowledged.length === count) child.kill('SIGKILL');
  }
  return acknowledged;
}

async function expectWhole(store: Store, acknowledged: readonly Acknowledged[]): Promise<void> {
  const streams = new Set(acknowledged.map(({ stream }) => stream));
  for (const stream of streams) {
    const log = await readAll(store, stream);
    expect(log.map(({ seq }) => seq)).toEqual(Array.from({ length: log.length }, (_, n) => n + 1));
    expect(new Set(log.map(({ id }) => id)).size).toBe(log.length);
    // An append is two events: none may be there alone.
    expect(log.length % 2).toBe(0);
    const row = await store.stream(tenant, stream);
    expect(row).toMatchObject({ head: log.length, summary: { count: log.length } });
    for (const { id, firstSeq } of acknowledged.filter((one) => one.stream === stream)) {
      expect(log[firstSeq - 1]).toMatchObject({ id, public: { id } });
    }
  }
}

export const crashCases: Cases = {
  'kill -9 while appending loses nothing acknowledged and leaves no gap, round after round': async (
    scratch,
  ) => {
    const all: Acknowledged[] = [];
    for (const [round, count] of [30, 200, 77].entries()) {
      await scratch.store.close();
      const some = await acknowledgedBeforeKill(scratch, round, count);
      expect(some.length).toBeGreaterThanOrEqual(count);
      all.push(...some);
      await scratch.reopen();
      await expectWhole(scratch.store, all);
    }
  },
};
