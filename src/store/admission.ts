/**
 * May an append be written: the checks and their order, which are part of the contract and the same for every engine
 * (L3). The engine sees to it that the row they are made on is the row that is written to.
 */
import { failpoints, sabotaged } from '../protocol/failpoint.ts';
import type { Append, AppendResult, Tenant } from './store.ts';

/** Of a stream's row, what the checks and the next events need. */
export type StreamState = Tenant & {
  stream: string;
  head: number;
  fence: number;
  owner: string | null;
  lastTimeMs: number;
  erasedAt: string | null;
};

/** What an earlier append under the same request key was. */
export type Earlier = { hash: string; firstSeq: number; head: number };

/** The request key goes first: a repeated act gets its first answer whatever has happened to the stream since. */
export function refusalOf(
  request: Omit<Append, 'events' | 'resources' | 'outbox'>,
  row: StreamState | null,
  earlierRequest: () => Earlier | null,
): AppendResult | null {
  const { stream } = request;
  const isOurs = row !== null && row.organization === request.organization && row.project === request.project;
  if (isOurs && request.request !== undefined) {
    const earlier = earlierRequest();
    if (earlier !== null) return repeated(earlier, request.request.hash);
  }
  if (request.create) {
    return row === null ? null : { status: 'conflict', reason: 'exists', message: `${stream} exists` };
  }
  if (row === null || !isOurs)
    return { status: 'conflict', reason: 'missing', message: `there is no ${stream}` };
  if (row.erasedAt !== null) return { status: 'conflict', reason: 'missing', message: `${stream} is erased` };
  if (request.fence !== undefined && (row.owner === null || row.fence !== request.fence)) {
    if (!failpoints.on || !sabotaged('sabotage.no-fence')) return { status: 'fenced', fence: row.fence };
  }
  if (request.expectedSeq !== undefined && row.head !== request.expectedSeq) {
    return { status: 'moved', head: row.head };
  }
  return null;
}

function repeated(earlier: Earlier, hash: string): AppendResult {
  if (earlier.hash === hash) {
    return { status: 'duplicate', firstSeq: earlier.firstSeq, head: earlier.head };
  }
  return {
    status: 'conflict',
    reason: 'request',
    message: 'the same request key came before with another request',
  };
}
