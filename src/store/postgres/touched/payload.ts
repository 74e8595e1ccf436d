/** What processes say to each other after commits: who speaks, and which streams have which head. */
import type { Touched } from '../../store.ts';

export type { Touched };

/** Postgres takes payloads below 8000 bytes. */
const maxBytes = 7_900;
const maxStreams = 200;

/** As many messages as it takes. */
export function payloadsOf(origin: string, touched: readonly Touched[]): string[] {
  const payloads: string[] = [];
  let entries: string[] = [];
  let sizeBytes = 0;
  const flush = (): void => {
    if (entries.length > 0)
      payloads.push(`{"from":${JSON.stringify(origin)},"touched":[${entries.join(',')}]}`);
    entries = [];
    sizeBytes = origin.length + 32;
  };
  flush();
  for (const { stream, head, isOwners } of touched) {
    // An earlier release reads the first two.
    const entry = JSON.stringify(isOwners === true ? [stream, head, 1] : [stream, head]);
    const entryBytes = Buffer.byteLength(entry) + 1;
    if (entries.length === maxStreams || sizeBytes + entryBytes > maxBytes) flush();
    // One name alone beyond the limit: the poll finds it.
    if (sizeBytes + entryBytes > maxBytes) continue;
    entries.push(entry);
    sizeBytes += entryBytes;
  }
  flush();
  return payloads;
}

/** Null where it is not ours to read: another program, a later release. */
export function touchedOf(payload: string | undefined): { from: string; touched: Touched[] } | null {
  try {
    const said = JSON.parse(payload ?? '') as { from?: unknown; touched?: unknown };
    if (typeof said.from !== 'string' || !Array.isArray(said.touched)) return null;
    const touched = said.touched.flatMap((entry: unknown) => {
      const [stream, head, flag] = Array.isArray(entry) ? (entry as unknown[]) : [];
      if (typeof stream !== 'string' || typeof head !== 'number') return [];
      return [flag === 1 ? { stream, head, isOwners: true } : { stream, head }];
    });
    return { from: said.from, touched };
  } catch {
    return null;
  }
}
