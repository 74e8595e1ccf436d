/**
 * A session's workspace as people see it, between turns or during them: the diff, and the bundle that takes it home.
 * Works under the fence of the session's present owner, so a later owner is never disturbed.
 *
 * S3: everything is computed inside the sandbox, which is started for it where it sleeps.
 */
import { bundleWorkspace, deliveryRef } from '../delivery/bundle.ts';
import { diffWorkspace, type FileChange } from '../delivery/diff.ts';
import { newId } from '../protocol/ids.ts';
import type { LimitValues } from '../protocol/limits.ts';
import type { Executor, Limits } from '../sandbox/executor.ts';
import { HostUnreachable, isRefusal } from '../sandbox/executor.ts';
import type { RepositoryPin } from '../session/events.ts';
import type { Blobs, Store, StreamRow, Tenant } from '../store/store.ts';
import { FoldedSessions } from './folded-sessions.ts';
import { limitsFor } from './limits.ts';
import type { SessionNetworks } from './network.ts';
import { settledEnvironment } from './session-environment.ts';

/** Why the workspace cannot be shown or given; `unavailable` may be asked again. */
export type Unavailable = { ok: false; reason: 'no_workspace' | 'unavailable' | 'failed'; message: string };

export type Diff = {
  ok: true;
  /** Unified diff of the working tree against the commit the session began with. */
  diff: string;
  baseCommit: string | null;
  files: { path: string; status: string; additions: number | null; deletions: number | null }[];
  /** False where the diff was cut at a limit. */
  isWhole: boolean;
};

export type Bundle = {
  ok: true;
  bundle: AsyncIterable<Uint8Array> | Uint8Array;
  filename: string;
  /** Branch in the bundle that holds the session's work. */
  branch: string;
  head: string;
  baseCommit: string | null;
};

/** A bundle before its bytes are read. */
export type MadeBundle = Omit<Bundle, 'bundle'> & { organization: string; sha256: string };

type Parts = {
  store: Store;
  folded?: FoldedSessions;
  blobs: Blobs;
  executor: Executor;
  limits: Limits;
  maxima?: LimitValues;
  tenant: Tenant;
  networks?: SessionNetworks;
};
type Place = { row: StreamRow; pin: RepositoryPin; baseCommit: string };

const pieceBytes = 1024 * 1024;

export class Workspaces {
  readonly #parts: Parts;
  readonly #folded: FoldedSessions;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#folded = parts.folded ?? new FoldedSessions(parts.store);
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
    const made = await this.makeBundle(session);
    if (!made.ok) return made;
    const { organization, sha256, ...bundle } = made;
    return { ...bundle, bundle: pieces(this.#parts.blobs, organization, sha256) };
  }

  /** The bundle as a blob, for whoever can read blobs. */
  async makeBundle(session: string): Promise<MadeBundle | Unavailable> {
    const { executor, blobs } = this.#parts;
    return this.#inside<MadeBundle>(session, async ({ row, pin, baseCommit }) => {
      const { organization } = row;
      const ref = { session, fence: row.fence, callId: newId('request') };
      const made = await bundleWorkspace(executor, ref, pin, baseCommit, { blobs, organization });
      if (!made.ok) return { ok: false, reason: 'failed', message: made.message };
      if (made.sha256 === null) {
        const message = 'The workspace is as it was given to the session: there is nothing to bring back.';
        return { ok: false, reason: 'no_workspace', message };
      }
      return {
        ok: true,
        organization,
        sha256: made.sha256,
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
    const { store, executor, tenant, networks, maxima = {} } = this.#parts;
    const row = await store.stream(tenant, session);
    const state = row ? await this.#folded.fold(session) : null;
    const pin = state?.config?.repository ?? null;
    const { baseCommit = null, hostId = null } = state?.sandbox ?? {};
    if (!row || !state?.config || !pin || baseCommit === null) {
      const message =
        'The session has no laid-out repository: it was created without one, or has run no tool yet.';
      return { ok: false, reason: 'no_workspace', message };
    }
    const { isolation } = state.config;
    const limits = limitsFor(this.#parts.limits, maxima, state.config);
    const place = hostId === null ? {} : { host: hostId };
    const claim = { ...tenant, stream: session, fence: row.fence, head: row.head };
    const way = await networks?.ready(claim, state, hostId);
    if (way && 'problem' in way) return { ok: false, reason: 'unavailable', message: way.problem };
    const { unreachable: _, ...network } = way ?? {};
    const environment = settledEnvironment(state);
    const env = { ...environment.env, ...way?.env };
    const spec = { session, fence: row.fence, isolation, limits, ...network, ...place, ...environment, env };
    const sandbox = await executor.createSandbox(spec);
    if (isRefusal(sandbox)) return { ok: false, reason: 'unavailable', message: sandbox.message };
    return { row, pin, baseCommit };
  }
}

function shown(file: FileChange) {
  return { path: file.path, status: file.status, additions: file.added, deletions: file.removed };
}

/** The bytes of a blob, a piece at a time. */
export async function* pieces(blobs: Blobs, organization: string, sha256: string): AsyncIterable<Uint8Array> {
  for (let offset = 0; ; offset += pieceBytes) {
    const data = await blobs.read(organization, sha256, offset, pieceBytes);
    if (!data) throw new Error(`blob ${sha256} is gone`);
    if (data.length > 0) yield data;
    if (data.length < pieceBytes) return;
  }
}
