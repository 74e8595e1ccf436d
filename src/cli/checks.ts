/**
 * Where the checks of a store are made: by the server that has it open, or here where none runs, so that a store can be
 * examined after its server died of it. They only read.
 */
import path from 'node:path';
import { defaultDataDir } from './data-dir.ts';
import { Refused } from './ending.ts';
import type { Client } from './server/client.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { resolveAmong, resolveSession } from './server/sessions.ts';
import type { Terminal } from './terminal/terminal.ts';

export type Finding = { stream: string; seq: number | null; promise: string; message: string };

export type FsckPart = { streams: number; events: number; findings: Finding[]; omitted: number };

export type ReplayReport = {
  session_id: string;
  events: number;
  requests: number;
  unrendered: number;
  first_difference: {
    request: number;
    seq: number;
    event_id: string;
    recorded_sha256: string;
    derived_sha256: string;
  } | null;
};

export type Checks = {
  /** The server that makes them; null: this process. */
  by: string | null;
  /** Reads everything, part by part. */
  fsck(): AsyncIterable<FsckPart>;
  replay(typed: string): Promise<ReplayReport>;
  close(): Promise<void>;
};

export async function openChecks(options: ServerOptions, terminal: Terminal): Promise<Checks> {
  const dataDir = path.resolve(options.dataDir ?? defaultDataDir());
  const isNamed = options.url !== undefined || (process.env.SCRIPTORIUM_URL ?? '') !== '';
  let client: Client;
  try {
    client = await connect({ ...options, dataDir, terminal });
  } catch (error) {
    if (isNamed || !(error instanceof Refused)) throw error;
    return checksHere(dataDir);
  }
  return {
    by: client.url,
    fsck: () => fsckBy(client),
    replay: async (typed) =>
      client.get<ReplayReport>(`/v1/sessions/${await resolveSession(client, typed)}/replay`),
    close: async () => undefined,
  };
}

async function* fsckBy(client: Client): AsyncIterable<FsckPart> {
  let page: string | undefined;
  do {
    const part = await client.get<Omit<FsckPart, 'findings'> & { data: Finding[]; next_page: string | null }>(
      '/v1/fsck',
      { query: { page } },
    );
    yield { ...part, findings: part.data };
    page = part.next_page ?? undefined;
  } while (page !== undefined);
}

async function checksHere(dataDir: string): Promise<Checks> {
  const { openChecksHere } = await import('./up.ts');
  const store = await openChecksHere(dataDir);
  return {
    by: null,
    async *fsck() {
      let after: Parameters<typeof store.fsck>[0] = null;
      do {
        const part: Awaited<ReturnType<typeof store.fsck>> = await store.fsck(after);
        yield part;
        after = part.next;
      } while (after !== null);
    },
    async replay(typed) {
      const id = await resolveAmong(typed, () => store.newestSessions());
      const { events, requests, unrendered, firstDifference, isErased } = await store.replay(id);
      if (isErased) throw new Refused(`${id} was deleted: there is nothing left to replay`);
      if (events === 0) throw new Refused(`there is no session ${id}`);
      const first_difference = firstDifference && {
        request: firstDifference.request,
        seq: firstDifference.seq,
        event_id: firstDifference.eventId,
        recorded_sha256: firstDifference.recordedSha256,
        derived_sha256: firstDifference.derivedSha256,
      };
      return { session_id: id, events, requests, unrendered, first_difference };
    },
    close: () => store.close(),
  };
}
