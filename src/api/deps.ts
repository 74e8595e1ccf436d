/**
 * What the API needs from the rest of the house, handed in by `main.ts`. The API never drives a session: it validates,
 * authorises, appends inputs to the log and reads.
 */
import type { FoldedSessions } from '../engine/folded-sessions.ts';
import type { Bundle, Diff, Unavailable } from '../engine/workspace.ts';
import type { Vault } from '../guard/vault/vault.ts';
import type { SessionAgent } from '../protocol/agents.ts';
import type { EnvironmentBuild, EnvironmentLayer } from '../protocol/environment-builds.ts';
import type { Environment, EnvironmentConfig } from '../protocol/environments.ts';
import type { Isolation } from '../protocol/isolation.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { LimitValues } from '../protocol/limits.ts';
import type { PreviewBus } from '../protocol/previews.ts';
import type { PinnedTool, RepositoryPin } from '../session/events.ts';
import type { RequestPrefix } from '../session/model-request.ts';
import type { Blobs, Store, Tenant } from '../store/store.ts';
import type { FleetDesk } from './fleet-desk.ts';

/** Everything that shapes a session's first bytes: rendered once, then pinned (L7). */
export type PinRequest = {
  sessionId: string;
  agent: SessionAgent;
  environment: Environment;
  isolation: Isolation;
  repository: RepositoryPin | null;
  /** Absolute paths of the files mounted read-only. */
  mounts: string[];
};

export type PinSession = (request: PinRequest) => { prefix: RequestPrefix; tools: PinnedTool[] };

export type SessionHands = {
  diff(sessionId: string): Promise<Diff | Unavailable>;
  exportBundle(sessionId: string): Promise<Bundle | Unavailable>;
};

export type Finding = { stream: string; promise: string; seq: number | null; message: string };

/** A part of a check of the whole store; `next` is where the following part begins, null after the last. */
export type FsckPage = {
  streams: number;
  events: number;
  findings: Finding[];
  /** Findings beyond those that are listed. */
  omitted: number;
  next: { createdAt: string; stream: string } | null;
};

export type SessionReplay = {
  events: number;
  requests: number;
  unrendered: number;
  firstDifference: {
    request: number;
    seq: number;
    eventId: string;
    recordedSha256: string;
    derivedSha256: string;
  } | null;
};

/** Whether the store keeps its promises, and whether a session's requests can be derived again. They only read. */
export type StoreChecks = {
  fsck(tenant: Tenant, after: FsckPage['next']): Promise<FsckPage>;
  replay(session: string): Promise<SessionReplay>;
};

export type EnvironmentDesk = {
  /** Begins a build, where there is none under way and none there. */
  begin(tenant: Tenant, config: EnvironmentConfig): Promise<void>;
  state(
    tenant: Tenant,
    config: EnvironmentConfig,
  ): Promise<Omit<EnvironmentBuild, 'type' | 'environment_id' | 'version'>>;
  layers(): Promise<EnvironmentLayer[]>;
  /** Digests of what was removed. */
  clean(olderThanMs: number): Promise<string[]>;
};

export type Readiness = {
  ok: boolean;
  checks: Record<string, { ok: boolean; message?: string }>;
  roles?: { api: boolean; engine: boolean };
  hosts_connected?: number;
};

export type ApiLimits = {
  jsonBytes: number;
  fileBytes: number;
  heartbeatMs: number;
  /** A stream whose reader takes nothing for this long is dropped. */
  stalledReaderMs: number;
  /** Previews held for one connection; beyond it they are shed. */
  previewFrames: number;
};

export const defaultLimits: ApiLimits = {
  jsonBytes: 32 * 1024 * 1024,
  fileBytes: 1024 * 1024 * 1024,
  heartbeatMs: 10_000,
  stalledReaderMs: 60_000,
  previewFrames: 2000,
};

export type ApiDeps = {
  store: Store;
  /** Shared with the engine of this process, where there is one. */
  folded: FoldedSessions;
  blobs: Blobs;
  /** Milliseconds since the epoch. */
  now(): number;
  previews: PreviewBus;
  isolation: Isolation;
  version: string;
  pinSession: PinSession;
  sandbox: SessionHands;
  checks: StoreChecks;
  ready(): Promise<Readiness>;
  /** The probe report of this server, as `scriptorium doctor` shows it. */
  doctor(): Promise<JsonObject>;
  /** The other processes of the deployment; absent where there is no telling. */
  fleet?: FleetDesk;
  /** Builds of environments; absent where this process has no hands. */
  environments?: EnvironmentDesk;
  /** Absent: everything of vaults is `unavailable`. */
  vault?: Vault;
  /** Told of bugs (never of refusals); must not throw. */
  onBug?(error: unknown, requestId: string): void;
  limits?: Partial<ApiLimits>;
  /** The most that an environment may ask for. */
  limitMaxima?: LimitValues;
  /** Aborted when the server stops: open streams end then. */
  closing?: AbortSignal;
};
