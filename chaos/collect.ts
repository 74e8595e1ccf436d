/** Reads the store when nobody has it open any more: the logs as they are, and what fsck and replay say of them. */
import { storeChecks } from '../src/engine/checks.ts';
import { defaultTenant } from '../src/protocol/tenant.ts';
import type { Store } from '../src/store/store.ts';
import type { LogEvent } from './evidence.ts';
import type { Topology } from './topology.ts';

const batch = 1_000;

type Reading = { logs: LogEvent[][]; audits: string[] };

export async function readStore(topology: Topology, sessions: readonly string[]): Promise<Reading> {
  const store = await topology.openStore();
  try {
    const logs: LogEvent[][] = [];
    for (const session of sessions) logs.push(await readLog(store, session));
    return { logs, audits: await audit(store, sessions) };
  } finally {
    await store.close();
  }
}

async function readLog(store: Store, session: string): Promise<LogEvent[]> {
  const log: LogEvent[] = [];
  for (;;) {
    const events = await store.read(session, log.at(-1)?.seq ?? 0, batch);
    log.push(...events);
    if (events.length < batch) return log;
  }
}

/** In words; an empty list is a good end. */
async function audit(store: Store, sessions: readonly string[]): Promise<string[]> {
  const { fsck, replay } = storeChecks(store);
  const complaints: string[] = [];
  for (let at: Parameters<typeof fsck>[1] = null, isOver = false; !isOver; ) {
    const page: Awaited<ReturnType<typeof fsck>> = await fsck(defaultTenant, at);
    for (const { stream, seq, promise, message } of page.findings)
      complaints.push(`fsck: ${promise} ${stream}${seq === null ? '' : ` at ${seq}`}: ${message}`);
    at = page.next;
    isOver = at === null;
  }
  for (const session of sessions) {
    const { firstDifference } = await replay(session);
    if (firstDifference)
      complaints.push(`replay: the request at ${firstDifference.seq} of ${session} is derived otherwise now`);
  }
  return complaints;
}
