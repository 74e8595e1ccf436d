/**
 * Resources of a new session (managed-agents-protocol.md §6.2, §6.3): a mounted file is a copy with an id of its own, so
 * the session keeps it whatever becomes of the original. Bytes are not copied: a blob may have many names.
 */
import type { Problem } from '../../../protocol/errors.ts';
import { isProblem, problem } from '../../../protocol/errors.ts';
import { unavailable } from '../../../protocol/fields.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import type { ResourceParams } from '../../../protocol/sessions.ts';
import { sandboxPaths } from '../../../sandbox/executor.ts';
import type { EventBodies, RepositoryPin } from '../../../session/events.ts';
import type { Resource, ResourcePut, Store, Tenant } from '../../../store/store.ts';
import type { MintId } from '../../request-key.ts';
import { isExpired } from '../files/row.ts';

type Upload = EventBodies['session.created']['X']['uploads'][number];

export type Mounts = {
  /** As clients see them. */
  resources: JsonObject[];
  /** As the hands lay them out. */
  uploads: Upload[];
  copies: ResourcePut[];
  paths: string[];
  repository: RepositoryPin | null;
};

type Context = { store: Store; tenant: Tenant; sessionId: string; mint: MintId; nowMs: number };

export async function mountAll(
  context: Context,
  params: readonly ResourceParams[],
): Promise<Mounts | Problem> {
  const mounts: Mounts = { resources: [], uploads: [], copies: [], paths: [], repository: null };
  for (const [index, param] of params.entries()) {
    const mounted = await mountOne(context, param, index);
    if (isProblem(mounted)) return mounted;
    mounts.resources.push(mounted.resource);
    mounts.copies.push(mounted.copy);
    if (mounted.repository) {
      mounts.repository = mounted.repository;
      continue;
    }
    const path = String(mounted.resource.mount_path);
    if (mounts.paths.includes(path)) {
      return problem('invalid_request', `resources.${index}.mount_path: ${path} is taken already`);
    }
    mounts.paths.push(path);
    mounts.uploads.push(mounted.upload);
  }
  return mounts;
}

/** What every file system takes as one name. */
const maxNameBytes = 255;

type Mounted = { resource: JsonObject; copy: ResourcePut; upload: Upload; repository: RepositoryPin | null };

async function mountOne(context: Context, param: ResourceParams, index: number): Promise<Mounted | Problem> {
  const { store, tenant, mint, nowMs } = context;
  const file = await store.resource(tenant, 'file', param.file_id);
  if (!file) return problem('not_found', `resources.${index}.file_id: there is no file ${param.file_id}.`);
  if (isExpired(file, nowMs))
    return problem('file_expired', `resources.${index}.file_id: ${param.file_id} has expired.`);
  const copyId = mint('file', `resource ${index}`);
  const mountPath = param.type === 'file' ? uploadPath(param.mount_path ?? copyId) : sandboxPaths.workspace;
  if (typeof mountPath !== 'string') {
    return problem(mountPath.problem, `resources.${index}.mount_path: ${mountPath.message}`);
  }
  const id = mint('sessionResource', `resource ${index}`);
  const upload = param.type === 'file' ? mountPath.slice(sandboxPaths.uploads.length + 1) : `${id}.bundle`;
  const time = new Date(nowMs).toISOString();
  const git =
    param.type === 'repository'
      ? { branch: param.branch ?? null, head: param.head ?? null, snapshot_ref: param.snapshot_ref }
      : {};
  return {
    copy: copyOf(file, copyId, context.sessionId, time),
    resource: {
      type: param.type,
      id,
      file_id: copyId,
      mount_path: mountPath,
      ...git,
      created_at: time,
      updated_at: time,
    },
    upload: { name: upload, blobSha256: String(file.body.sha256), sizeBytes: Number(file.body.size_bytes) },
    repository: param.type === 'repository' ? pinOf(param, file, upload) : null,
  };
}

/**
 * Everything is rooted under the uploads directory: `/data.csv` and `data.csv` are the same place. What the hands could
 * not lay out is refused here, where somebody reads the answer.
 */
function uploadPath(path: string): string | Problem {
  const inside = path.startsWith(`${sandboxPaths.uploads}/`) ? path.slice(sandboxPaths.uploads.length) : path;
  const parts = inside.split('/').filter((part) => part !== '');
  const [name] = parts;
  if (name === undefined) return problem('invalid_request', 'names no file');
  if (parts.length > 1)
    return problem('not_supported', unavailable('directories are', `mount it as /${parts.at(-1)}`));
  if (Buffer.byteLength(name) > maxNameBytes)
    return problem('invalid_request', `at most ${maxNameBytes} bytes`);
  return `${sandboxPaths.uploads}/${name}`;
}

function copyOf(file: Resource, id: string, sessionId: string, time: string): ResourcePut {
  return {
    kind: 'file',
    id,
    version: 1,
    body: { ...file.body, id, scope: { type: 'session', id: sessionId }, expires_at: null },
    createdAt: time,
    updatedAt: time,
    archivedAt: null,
    uniqueName: null,
  };
}

function pinOf(
  param: ResourceParams & { type: 'repository' },
  file: Resource,
  upload: string,
): RepositoryPin {
  return {
    upload,
    blobSha256: String(file.body.sha256),
    sizeBytes: Number(file.body.size_bytes),
    mountPath: sandboxPaths.workspace,
    branch: param.branch ?? null,
    head: param.head ?? null,
    snapshotRef: param.snapshot_ref,
  };
}
