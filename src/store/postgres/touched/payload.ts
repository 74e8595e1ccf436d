/** What processes say to each other after commits: who speaks, and which streams have which head. */
export type Touched = { stream: string; head: number };

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
  for (const { stream, head } of touched) {
    const entry = JSON.stringify([stream, head]);
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
      const [stream, head] = Array.isArray(entry) ? (entry as unknown[]) : [];
      return typeof stream === 'string' && typeof head === 'number' ? [{ stream, head }] : [];
    });
    return { from: said.from, touched };
  } catch {
    return null;
  }
}
