/** Versioned rows: put and deleted inside an append, read by id, version and unique name. */
import type { Json } from '../../protocol/json.ts';
import { canonicalJson } from '../../protocol/json.ts';
import type { TextAppend, TextResource, TextResourcePut } from '../as-text.ts';
import { withBody } from '../as-text.ts';
import type { AppendResult, ListResources, Resource, Tenant } from '../store.ts';
import { timeBound } from '../time-bound.ts';
import type { Connection } from './connection/pool.ts';
import { texts } from './connection/values.ts';
import type { Database } from './database.ts';
import type { StatementName } from './statements.ts';
import { run } from './statements.ts';

type Conflict = Extract<AppendResult, { status: 'conflict' }>;

export function touchesResources(request: TextAppend): boolean {
  return request.resources.length > 0 || (request.deleteResources ?? []).length > 0;
}

/** Deletes first, so that one append can replace a row under its old id or name. */
export async function putResources(connection: Connection, request: TextAppend): Promise<Conflict | null> {
  if (!touchesResources(request)) return null;
  const { organization, project } = request;
  await run(connection, 'lockResources', [texts(lockNames(request))]);
  for (const { kind, id } of request.deleteResources ?? []) {
    await run(connection, 'deleteResource', [organization, project, kind, id]);
  }
  for (const put of request.resources) {
    const conflict = await putResource(connection, { organization, project }, put);
    if (conflict !== null) return conflict;
  }
  return null;
}

/**
 * Resources belong to no stream, so the stream's row does not order their writers. Ids and names are locked before they
 * are looked at, in one order everywhere, and after the stream's row: nobody waits in a circle.
 */
function lockNames({ organization, project, resources, deleteResources = [] }: TextAppend): string[] {
  const tenant = [organization, project];
  const names = [...resources, ...deleteResources].map(({ kind, id }) => [...tenant, kind, 'id', id]);
  for (const { kind, uniqueName } of resources) {
    if (uniqueName !== null) names.push([...tenant, kind, 'name', uniqueName]);
  }
  return [...new Set(names.map((name) => JSON.stringify(name)))].sort();
}

async function putResource(
  connection: Connection,
  { organization, project }: Tenant,
  put: TextResourcePut,
): Promise<Conflict | null> {
  const { kind, id, version, uniqueName } = put;
  const place = [organization, project, kind, id];
  const [newest] = await run<TextResource>(connection, 'newestResource', place);
  const isSameVersion = newest?.version === version && hasSameBody(newest.body, put.body);
  if (newest !== undefined && version <= newest.version && !isSameVersion) {
    const message = `${kind} ${id} is at version ${newest.version}`;
    return { status: 'conflict', reason: 'version', message };
  }
  if (uniqueName !== null && put.archivedAt === null) {
    const [holder] = await run<{ id: string }>(connection, 'nameHolder', [
      organization,
      project,
      kind,
      uniqueName,
    ]);
    if (holder !== undefined && holder.id !== id) {
      return { status: 'conflict', reason: 'name', message: `another ${kind} has the name ${uniqueName}` };
    }
  }
  const { updatedAt, archivedAt } = put;
  if (isSameVersion) {
    await run(connection, 'touchResource', [...place, version, updatedAt, archivedAt, uniqueName]);
    return null;
  }
  if (newest !== undefined) await run(connection, 'retireResource', place);
  const life = [put.createdAt, updatedAt, archivedAt, uniqueName];
  await run(connection, 'insertResource', [...place, version, put.body, ...life]);
  return null;
}

function hasSameBody(one: string, other: string): boolean {
  return one === other || canonicalJson(JSON.parse(one) as Json) === canonicalJson(JSON.parse(other) as Json);
}

export async function resource(
  database: Database,
  { organization, project }: Tenant,
  query: { kind: string; id: string; version: number | null },
): Promise<Resource | null> {
  const place = [organization, project, query.kind, query.id];
  const [row] =
    query.version === null
      ? await resources(database, 'newestResource', place)
      : await resources(database, 'resourceVersion', [...place, query.version]);
  return row ?? null;
}

export async function resourceByName(
  database: Database,
  kind: string,
  uniqueName: string,
): Promise<Resource | null> {
  return (await resources(database, 'resourceByName', [kind, uniqueName]))[0] ?? null;
}

export function listResources(database: Database, query: ListResources): Promise<Resource[]> {
  const { organization, project, kind, after, limit } = query;
  const from = timeBound(query.createdAt?.gte, '');
  const to = timeBound(query.createdAt?.lte, '~');
  if (query.versionsOf === undefined) {
    const keyset = [after?.createdAt ?? '~', after?.id ?? ''];
    const values = [organization, project, kind, from, to, query.includeArchived === true, ...keyset, limit];
    return resources(database, 'listResources', values);
  }
  const before = after?.version ?? Number.MAX_SAFE_INTEGER;
  const values = [organization, project, kind, query.versionsOf, from, to, before, limit];
  return resources(database, 'listVersions', values);
}

async function resources(
  { pool }: Database,
  statement: StatementName,
  values: readonly unknown[],
): Promise<Resource[]> {
  const rows = await pool.use((connection) => run<TextResource>(connection, statement, values));
  return rows.map(withBody);
}
