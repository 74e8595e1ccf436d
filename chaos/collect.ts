/** Reads the store when nobody has it open any more: the logs as they are, and what fsck and replay say of them. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { storeChecks } from '../src/engine/checks.ts';
import { openStore } from '../src/store/open.ts';
import type { Store, Tenant } from '../src/store/store.ts';
import type { LogEvent } from './evidence.ts';

const batch = 1_000;

function open(directory: string): Promise<Store> {
  const extension = path.extname(fileURLToPath(import.meta.url));
  const summarizeModule = new URL(`../src/session/summary${extension}`, import.meta.url);
  return openStore({ directory, summarizeModule });
}

export async function readLogs(directory: string, sessions: readonly string[]): Promise<LogEvent[][]> {
  const store = await open(directory);
  try {
    const logs: LogEvent[][] = [];
    for (const session of sessions) logs.push(await readLog(store, session));
    return logs;
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
export async function auditStore(
  directory: string,
  sessions: readonly string[],
  tenant: Tenant,
): Promise<string[]> {
  const store = await open(directory);
  const { fsck, replay } = storeChecks(store);
  const complaints: string[] = [];
  try {
    for (let at: Parameters<typeof fsck>[1] = null, isOver = false; !isOver; ) {
      const page: Awaited<ReturnType<typeof fsck>> = await fsck(tenant, at);
      for (const { stream, seq, promise, message } of page.findings)
        complaints.push(`fsck: ${promise} ${stream}${seq === null ? '' : ` at ${seq}`}: ${message}`);
      at = page.next;
      isOver = at === null;
    }
    for (const session of sessions) {
      const { firstDifference } = await replay(session);
      if (firstDifference)
        complaints.push(
          `replay: the request at ${firstDifference.seq} of ${session} is derived otherwise now`,
        );
    }
  } finally {
    await store.close();
  }
  return complaints;
}
