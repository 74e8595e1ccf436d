/**
 * A session's workspace as people see it, between turns or during them: the diff, and the bundle that takes it home.
 * Works under the fence of the session's present owner, so a later owner is never disturbed.
 *
 * S3: everything is computed inside the sandbox, which is started for it where it sleeps.
 */
import { bundleWorkspace, deliveryRef } from '../delivery/bundle.ts';
import { diffWorkspace, type FileChange } from '../delivery/diff.ts';
import { newId } from '../protocol/ids.ts';
import type { Executor, Limits } from '../sandbox/executor.ts';
import { HostUnreachable, isRefusal } from '../sandbox/executor.ts';
import type { RepositoryPin } from '../session/events.ts';
import type { Blobs, Store, StreamRow, Tenant } from '../store/store.ts';
import { asStored } from './drive.ts';

export type Unavailable = { ok: false; reason: 'no_workspace' | 'unavailable' | 'failed'; message: string };

export type Diff = {
  ok: true;
  diff: string;
  baseCommit: string | null;
  files: { path: string; status: string; additions: number | null; deletions: number | null }[];
  isWhole: boolean;
};

export type Bundle = {
  ok: true;
  bundle: AsyncIterable<Uint8Array>;
  filename: string;
  branch: string;
  head: string;
  baseCommit: string | null;
};

type Parts = { store: Store; blobs: Blobs; executor: Executor; limits: Limits; tenant: Tenant };
type Place = { row: StreamRow; pin: RepositoryPin; baseCommit: string };

const batch = 1_000;
const pieceBytes = 1024 * 1024;

export class Workspaces {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async diff(session: string): Promise<Diff | Unavailable> {
    return this.#inside<Diff>(session, async ({ row, pin, baseCommit }) => {
      const ref = { session, fence: row.fence, callId: newId('request') };
      const found = await diffWorkspace(this.#parts.executor, ref, pin, baseCommit);
      if (!found.ok) return { ok: false, reason: 'failed', message: found.message };
      return {
        ok: true,
        diff: found.diff,
        baseCommit: found.base,
        files: found.files.map(shown),
        isWhole: found.isWhole,
      };
    });
  }

  async exportBundle(session: string): Promise<Bundle | Unavailable> {
    const { executor, blobs } = this.#parts;
    return this.#inside<Bundle>(session, async ({ row, pin, baseCommit }) => {
      const ref = { session, fence: row.fence, callId: newId('request') };
      const target = { blobs, organization: row.organization };
      const made = await bundleWorkspace(executor, ref, pin, baseCommit, target);
      if (!made.ok) return { ok: false, reason: 'failed', message: made.message };
      if (made.sha256 === null) {
        const message = 'The workspace is as it was given to the session: there is nothing to bring back.';
        return { ok: false, reason: 'no_workspace', message };
      }
      return {
        ok: true,
        bundle: pieces(blobs, row.organization, made.sha256),
        filename: `${session}.bundle`,
        branch: deliveryRef,
        head: made.head,
        baseCommit: made.base,
      };
    });
  }

  async #inside<T extends { ok: true }>(
    session: string,
    work: (place: Place) => Promise<T | Unavailable>,
  ): Promise<T | Unavailable> {
    try {
      const place = await this.#place(session);
      return 'reason' in place ? place : await work(place);
    } catch (error) {
      if (!(error instanceof HostUnreachable)) throw error;
      return { ok: false, reason: 'unavailable', message: 'The sandbox host cannot be reached now.' };
    }
  }

  async #place(session: string): Promise<Place | Unavailable> {
    const { store, executor, limits, tenant } = this.#parts;
    const row = await store.stream(tenant, session);
    const begun = row ? await this.#begun(session) : null;
    if (!row || !begun) {
      const message =
        'The session has no laid-out repository: it was created without one, or has run no tool yet.';
      return { ok: false, reason: 'no_workspace', message };
    }
    const spec = { session, fence: row.fence, isolation: begun.isolation, limits, env: {} };
    const sandbox = await executor.createSandbox(spec);
    if (isRefusal(sandbox)) return { ok: false, reason: 'unavailable', message: sandbox.message };
    return { row, pin: begun.pin, baseCommit: begun.baseCommit };
  }

  async #begun(session: string) {
    let pin: RepositoryPin | null = null;
    let isolation: 'bubblewrap' | 'none' = 'bubblewrap';
    for (let after = 0; ; after += batch) {
      const events = await this.#parts.store.read(session, after, batch);
      for (const event of events.map(asStored)) {
        if (event.type === 'session.created' && event.private)
          ({ repository: pin, isolation } = event.private);
        if (event.type !== 'sandbox.ready' || !pin || !event.private?.baseCommit) continue;
        return { pin, isolation, baseCommit: event.private.baseCommit };
      }
      if (events.length < batch) return null;
    }
  }
}

function shown(file: FileChange) {
  return { path: file.path, status: file.status, additions: file.added, deletions: file.removed };
}

async function* pieces(blobs: Blobs, organization: string, sha256: string): AsyncIterable<Uint8Array> {
  for (let offset = 0; ; offset += pieceBytes) {
    const data = await blobs.read(organization, sha256, offset, pieceBytes);
    if (!data) throw new Error(`blob ${sha256} is gone`);
    if (data.length > 0) yield data;
    if (data.length < pieceBytes) return;
  }
}
