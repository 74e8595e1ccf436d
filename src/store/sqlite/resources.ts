/** Versioned rows: put and deleted inside an append, read by id, version and unique name. */
import type { Json } from '../../protocol/json.ts';
import { canonicalJson } from '../../protocol/json.ts';
import type { TextAppend, TextResource, TextResourcePut } from '../as-text.ts';
import type { AppendResult, ListResources, Tenant } from '../store.ts';
import { timeBound } from '../time-bound.ts';
import type { Database } from './database.ts';

type Conflict = Extract<AppendResult, { status: 'conflict' }>;

/** Deletes first, so that one append can replace a row under its old id or name. */
export function putResources(database: Database, request: TextAppend): Conflict | null {
  const { organization, project } = request;
  for (const { kind, id } of request.deleteResources ?? []) {
    database.statements.deleteResource.run({ organization, project, kind, id });
  }
  for (const put of request.resources) {
    const conflict = putResource(database, { organization, project }, put);
    if (conflict !== null) return conflict;
  }
  return null;
}

function putResource({ statements }: Database, tenant: Tenant, put: TextResourcePut): Conflict | null {
  const { kind, id, version, uniqueName } = put;
  const newest = statements.newestResource.get({ ...tenant, kind, id }) as TextResource | undefined;
  const isSameVersion = newest?.version === version && hasSameBody(newest.body, put.body);
  if (newest !== undefined && version <= newest.version && !isSameVersion) {
    const message = `${kind} ${id} is at version ${newest.version}`;
    return { status: 'conflict', reason: 'version', message };
  }
  if (uniqueName !== null && put.archivedAt === null) {
    const holder = statements.nameHolder.get({ ...tenant, kind, uniqueName });
    if (holder !== undefined && holder.id !== id) {
      return { status: 'conflict', reason: 'name', message: `another ${kind} has the name ${uniqueName}` };
    }
  }
  const { updatedAt, archivedAt } = put;
  if (isSameVersion) {
    statements.touchResource.run({ ...tenant, kind, id, version, updatedAt, archivedAt, uniqueName });
    return null;
  }
  if (newest !== undefined) statements.retireResource.run({ ...tenant, kind, id });
  statements.insertResource.run({ ...tenant, ...put });
  return null;
}

function hasSameBody(one: string, other: string): boolean {
  return one === other || canonicalJson(JSON.parse(one) as Json) === canonicalJson(JSON.parse(other) as Json);
}

export function resource(
  { statements }: Database,
  query: { tenant: Tenant; kind: string; id: string; version: number | null },
): TextResource | null {
  const { tenant, kind, id, version } = query;
  const { organization, project } = tenant;
  const row =
    version === null
      ? statements.newestResource.get({ organization, project, kind, id })
      : statements.resourceVersion.get({ organization, project, kind, id, version });
  return (row as TextResource | undefined) ?? null;
}

export function resourceByName(
  { statements }: Database,
  query: { kind: string; uniqueName: string },
): TextResource | null {
  return (statements.resourceByName.get(query) as TextResource | undefined) ?? null;
}

export function listResources({ statements }: Database, query: ListResources): TextResource[] {
  const { organization, project, kind, after, limit } = query;
  const range = {
    organization,
    project,
    kind,
    gte: timeBound(query.createdAt?.gte, ''),
    lte: timeBound(query.createdAt?.lte, '~'),
    limit,
  };
  const rows =
    query.versionsOf === undefined
      ? statements.listResources.all({
          ...range,
          includeArchived: query.includeArchived ? 1 : 0,
          afterCreatedAt: after?.createdAt ?? '~',
          afterId: after?.id ?? '',
        })
      : statements.listVersions.all({
          ...range,
          id: query.versionsOf,
          beforeVersion: after?.version ?? Number.MAX_SAFE_INTEGER,
        });
  return rows as TextResource[];
}
