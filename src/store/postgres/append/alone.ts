/**
 * One append in a transaction of its own, on a locked row: creation, resources and erasure, which are more than one
 * stream's rows, and whatever failed in company or lost the race for its stream too often.
 */
import { failpoint, failpoints } from '../../../protocol/failpoint.ts';
import { refusalOf } from '../../admission.ts';
import type { TextAppend } from '../../as-text.ts';
import { leastReaderVersion } from '../../event-rows.ts';
import type { AppendResult } from '../../store.ts';
import type { Plan, Waiting } from '../append.ts';
import { committedBefore, pairOf, plan } from '../append.ts';
import type { Connection } from '../connection/pool.ts';
import type { Database } from '../database.ts';
import { putResources } from '../resources.ts';
import { run } from '../statements.ts';
import type { Base, StreamRecord } from '../streams.ts';
import { baseOf } from '../streams.ts';
import { lookUp } from './lookup.ts';
import { write } from './write.ts';

/** `after`: the stream as it is now, where that is known. */
export type Ending = { result: AppendResult; after: Base | null } | 'again';

/**
 * Keeps nothing of a transaction that does not end in `ok`. A repeated request has nothing to keep but its row's lock, and
 * is committed for that: the commit waits for the standby, where the first one may not be yet.
 */
export function appendAlone(database: Database, waiting: Waiting): Promise<Ending> {
  return database.pool.transaction(async (connection, abandon) => {
    const ending = await attempt(database, connection, waiting);
    if (ending === 'again' || !['ok', 'duplicate'].includes(ending.result.status)) abandon();
    else if (failpoints.on) await failpoint('store.before-commit');
    return ending;
  });
}

async function attempt(database: Database, connection: Connection, waiting: Waiting): Promise<Ending> {
  const { request } = waiting;
  const { stream } = request;
  const [record] = await run<StreamRecord>(connection, 'streamLocked', [stream]);
  // The statement's own look at keys may be older than the lock it waited for.
  const found = await lookUp(connection, [waiting]);
  const existing = record === undefined ? null : baseOf(database.keys, record);
  // The repeated one is answered first: its resources are there, and a create is refused only where it is new.
  const before = committedBefore(waiting, found);
  const earlier = found.requests.get(pairOf(stream, request.request?.key ?? '')) ?? null;
  const answer = before ?? refusalOf(request, existing, () => earlier);
  if (answer !== null) return { result: answer, after: null };
  const base = existing ?? (await createStream(database, connection, waiting));
  if (base === null) return 'again';
  const conflict = await putResources(connection, request);
  if (conflict !== null) return { result: conflict, after: null };
  const planned = plan(base, [asExisting(waiting)], found, database.summarize);
  return commitPlan(connection, request, planned);
}

/** The stream is there by now; the plan need not refuse its creation. */
function asExisting(waiting: Waiting): Waiting {
  return { ...waiting, request: { ...waiting.request, create: false } };
}

async function commitPlan(
  connection: Connection,
  request: TextAppend,
  planned: Plan | null,
): Promise<Ending> {
  const failure = planned?.failures[0];
  if (failure !== undefined) throw failure.error;
  const chain = planned?.chain;
  const part = chain?.parts[0];
  if (chain === null || chain === undefined || part === undefined)
    throw new Error('the append was not planned');
  const written = await write(connection, [chain]);
  if (!written.has(request.stream)) throw new Error(`${request.stream} changed while it was locked`);
  const { firstSeq, head, time } = part;
  const result = { status: 'ok', firstSeq, head, time } as const;
  if (!request.eraseStream) return { result, after: chain.after };
  await run(connection, 'deleteKey', [request.stream]);
  await run(connection, 'eraseEvents', [request.stream]);
  await run(connection, 'eraseSnapshot', [request.stream]);
  await run(connection, 'eraseStream', [request.stream, time]);
  return { result, after: null };
}

/** Null where somebody else creates it at this moment; by now they have, or have not. */
async function createStream(
  { keys }: Database,
  connection: Connection,
  { request, nowMs }: Waiting,
): Promise<Base | null> {
  const { organization, project, stream } = request;
  const lastTimeMs = Math.floor(nowMs);
  const time = new Date(lastTimeMs).toISOString();
  const values = [organization, project, stream, time, lastTimeMs, leastReaderVersion];
  const created = await run(connection, 'insertStream', values);
  if (created.length === 0) return null;
  const { key, wrapped } = keys.create(stream);
  await run(connection, 'insertKey', [organization, project, stream, wrapped]);
  const state = { organization, project, stream, head: 0, fence: 0, owner: null, erasedAt: null };
  return { ...state, lastTimeMs, key, summary: null };
}
