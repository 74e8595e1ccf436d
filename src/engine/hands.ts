/**
 * A session's hands, as its engine holds them: brings the sandbox up lazily, lays the repository out once, and hands
 * tools their context. What isolates the agent goes into the log first (S4).
 */
import { layoutRepository } from '../delivery/layout.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { LimitValues } from '../protocol/limits.ts';
import type { Executor, Limits, Refusal, SandboxInfo } from '../sandbox/executor.ts';
import { HostAway, isRefusal } from '../sandbox/executor.ts';
import type { Draft, EventBodies, RepositoryPin } from '../session/events.ts';
import { initialState, type SessionConfig, type SessionState } from '../session/state.ts';
import type { Blobs, Claim } from '../store/store.ts';
import type { ToolContext } from '../tools/tool.ts';
import type { DiskAccess } from './act-checkpoint.ts';
import { draft } from './draft.ts';
import type { EnvironmentBuilds } from './environment-builds.ts';
import type { HostLosses } from './host-losses.ts';
import { limitDrafts, limitsFor } from './limits.ts';
import type { SessionNetworks } from './network.ts';
import type { Shell } from './realize.ts';
import { readyEnvironment } from './session-environment.ts';

/** Resolves once the events are in the log: true, or false where they never will be. */
export type Emit = (drafts: Draft[]) => Promise<boolean>;

export type Ready = { ok: true } | { ok: false; message: string; isWorkspaceLost?: true };

export type HandsParts = {
  executor: Executor;
  blobs: Blobs;
  limits: Limits;
  /** The most that an environment gets. */
  maxima?: LimitValues;
  losses?: HostLosses;
  networks?: SessionNetworks;
  /** Absent: environments are the base alone, and one that asks for more is refused. */
  environments?: EnvironmentBuilds;
};

/** Bytes a piece when a file is carried into a sandbox. */
const pieceBytes = 1024 * 1024;

export class Hands {
  readonly #executor: Executor;
  readonly #blobs: Blobs;
  readonly #claim: Claim;
  readonly #limits: Limits;
  readonly #maxima: LimitValues;
  readonly #losses: HostLosses | null;
  readonly #networks: SessionNetworks | null;
  readonly #environments: EnvironmentBuilds | null;
  /** Of the environment, as the log has it or is about to. */
  #layer: string | null = null;
  #isStarted = false;
  #isReady = false;
  /** Where the session's disk is, as the log has it. */
  #host: string | null = null;
  readonly #lost = new Set<string>();
  /** Credentials that nothing can be reached with; told once a sandbox. */
  #unreachable: EventBodies['session.error']['P']['error'][] = [];
  #preparing: Promise<Ready> | null = null;

  constructor(parts: HandsParts, claim: Claim) {
    this.#losses = parts.losses ?? null;
    this.#networks = parts.networks ?? null;
    this.#environments = parts.environments ?? null;
    this.#executor = parts.executor;
    this.#blobs = parts.blobs;
    this.#claim = claim;
    this.#limits = parts.limits;
    this.#maxima = parts.maxima ?? {};
  }

  contextFor(callId: string, cwd: string, signal: AbortSignal): ToolContext {
    const { stream: session, fence } = this.#claim;
    return { session, fence, callId, cwd, executor: this.#executor, signal };
  }

  /** What keeps the session's disk and puts it back. */
  get disk(): DiskAccess {
    const { stream: session, fence } = this.#claim;
    const losses = this.#losses;
    const isLost = async (error: HostAway): Promise<boolean> => (await losses?.isGivenUp(error)) ?? false;
    return { executor: this.#executor, session, fence, isLost };
  }

  /** The disk is another now, and its sandbox gone: what is there is what the log says. */
  forget(): void {
    this.#isStarted = false;
    this.#isReady = false;
  }

  /** Uploads are no part of a checkpoint: those of a fork are put into its own sandbox. */
  async carryUploads(state: SessionState, shell: Shell, emit: Emit): Promise<Ready> {
    const uploads = state.config?.uploads ?? [];
    if (uploads.length === 0 || !state.sandbox.isReady) return { ok: true };
    const ready = await this.ready(state, shell, emit);
    return ready.ok ? await this.#carryAll(uploads) : ready;
  }

  /** Single-flight. Cheap when all is there: the host answers that the sandbox runs. */
  ready(state: SessionState, shell: Shell, emit: Emit): Promise<Ready> {
    this.#preparing ??= this.#prepare(state, shell, emit).finally(() => {
      this.#preparing = null;
    });
    return this.#preparing;
  }

  async #prepare(state: SessionState, shell: Shell, emit: Emit): Promise<Ready> {
    const { config } = state;
    if (!config) return { ok: false, message: 'The session has no configuration.' };
    const sandbox = this.#sandboxOf(state);
    this.#host ??= sandbox.hostId;
    const host = this.#host;
    const info = await this.#create(config, state, host, { shell, emit }).catch(async (error: unknown) => {
      if (!(error instanceof HostAway) || host === null || !(await this.#losses?.isGivenUp(error)))
        throw error;
      return error;
    });
    if (info instanceof HostAway) return this.#loseWorkspace(host ?? '', state, shell, emit);
    if (isRefusal(info)) {
      void emit([draft(shell.mint, state, 'sandbox.failed', { message: info.message }, {})]);
      return { ok: false, message: `The sandbox could not be started: ${info.message}` };
    }
    const reached = limitDrafts(info.limitHits ?? [], null, state, shell.mint);
    if (reached.length > 0) void emit(reached);
    // Also where it runs already and the log does not say so: whoever started it did not live to tell.
    const isElsewhere = info.host !== undefined && info.host !== this.#host;
    if (!info.reused || isElsewhere || !(this.#isStarted || sandbox.isStarted)) {
      const problems = this.#unreachable
        .splice(0)
        .map((error) => draft(shell.mint, state, 'session.error', { error }, {}));
      const drifted = this.#drifted(info).map((facts) =>
        draft(shell.mint, state, 'environment.drifted', facts, {}),
      );
      const said = emit([
        draft(shell.mint, state, 'sandbox.started', shown(info), {}),
        ...drifted,
        ...problems,
      ]);
      // Nothing is begun on a host before the log says which: the next engine would look for it elsewhere (L6).
      if (isElsewhere && !(await said))
        return { ok: false, message: 'The engine has let go of the session.' };
    }
    this.#host = info.host ?? this.#host;
    this.#executor.locate?.(this.#claim.stream, this.#host);
    this.#isStarted = true;
    if (this.#isReady || sandbox.isReady) return { ok: true };
    const laidOut = await this.#layOut(config, state, shell, emit);
    this.#isReady = laidOut.ok;
    return laidOut;
  }

  async #create(
    config: SessionConfig,
    state: SessionState,
    logged: string | null,
    say: { shell: Shell; emit: Emit },
    isLayerGone = false,
  ): Promise<SandboxInfo | Refusal> {
    const { stream: session, fence } = this.#claim;
    const pinned = isLayerGone ? null : (this.#layer ?? this.#sandboxOf(state).layer);
    // Its layer is to be where it finds its way out.
    const place = logged ?? this.#networks?.placeFor(this.#claim, state) ?? null;
    const environment = await readyEnvironment({
      ...{ builds: this.#environments, tenant: this.#claim, state, pinned, host: place },
      ...say,
    });
    if ('problem' in environment) return { refused: 'isolation_unavailable', message: environment.problem };
    const { host, layer, env } = environment;
    this.#layer = layer?.digest ?? null;
    const way = await this.#networks?.ready(this.#claim, state, host);
    if (way && 'problem' in way) return { refused: 'isolation_unavailable', message: way.problem };
    const { unreachable, ...network } = way ?? { unreachable: [] };
    this.#unreachable = unreachable.map((error) => ({ ...error, retry_status: { type: 'terminal' } }));
    const { isolation } = config;
    const made = await this.#executor.createSandbox({
      session,
      fence,
      isolation,
      limits: limitsFor(this.#limits, this.#maxima, config),
      ...network,
      ...(host === null ? {} : { host }),
      ...(layer === undefined ? {} : { layer }),
      env: { ...env, ...way?.env },
    });
    // Removed meanwhile, or another host's: it is made again from its lock, once.
    if (!isRefusal(made) || made.refused !== 'no_layer' || pinned === null) return made;
    return this.#create(config, state, logged, say, true);
  }

  #drifted({ drift, reused }: SandboxInfo): { digest: string; message: string }[] {
    return drift === undefined || reused || this.#layer === null
      ? []
      : [{ digest: this.#layer, message: drift }];
  }

  /** As the log has it now, where a call was begun before the workspace was lost. */
  #sandboxOf(state: SessionState): SessionState['sandbox'] {
    const { sandbox } = state;
    return sandbox.hostId !== null && this.#lost.has(sandbox.hostId) ? initialState.sandbox : sandbox;
  }

  async #loseWorkspace(host: string, state: SessionState, shell: Shell, emit: Emit): Promise<Ready> {
    const message =
      `The machine that held this workspace (${host}) is lost. The workspace is laid out anew as it was when the ` +
      'session began: every change made since then, files outside the repository included, is gone. ' +
      'Look at what is there before you go on.';
    const said = emit([draft(shell.mint, state, 'workspace_lost', { host, message }, {})]);
    if (!(await said)) return { ok: false, message: 'The engine has let go of the session.' };
    this.#lost.add(host);
    this.#layer = null;
    this.#host = null;
    this.#isStarted = false;
    this.#isReady = false;
    this.#executor.locate?.(this.#claim.stream, null);
    return { ok: false, message, isWorkspaceLost: true };
  }

  async #layOut(config: SessionConfig, state: SessionState, shell: Shell, emit: Emit): Promise<Ready> {
    const uploaded = await this.#carryAll(config.uploads);
    if (!uploaded.ok) return uploaded;
    const { repository } = config;
    if (!repository) {
      void emit([
        draft(shell.mint, state, 'sandbox.ready', { repository: null }, { private: { baseCommit: null } }),
      ]);
      return { ok: true };
    }
    return await this.#checkOut(repository, state, shell, emit);
  }

  async #checkOut(pin: RepositoryPin, state: SessionState, shell: Shell, emit: Emit): Promise<Ready> {
    const { stream: session, fence } = this.#claim;
    const carried = await this.#carry(pin.upload, pin.blobSha256, pin.sizeBytes);
    if (!carried.ok) return carried;
    const callId = await this.#layoutCallId();
    const result = await layoutRepository(this.#executor, { session, fence, callId }, pin);
    if (!result.ok) {
      const error = {
        type: 'repository_checkout_error',
        message: result.message,
        retry_status: { type: 'retrying' as const },
        repository_url: null,
      };
      void emit([draft(shell.mint, state, 'session.error', { error }, {})]);
      return { ok: false, message: `The repository could not be laid out: ${result.message}` };
    }
    const repository: JsonObject = {
      mount_path: pin.mountPath,
      branch: pin.branch,
      base_commit: result.baseCommit,
    };
    void emit([
      draft(
        shell.mint,
        state,
        'sandbox.ready',
        { repository },
        { private: { baseCommit: result.baseCommit } },
      ),
    ]);
    return { ok: true };
  }

  /** The same call for every engine, so that the host knows whether it ran; a new one where it was lost or failed. */
  async #layoutCallId(): Promise<string> {
    const { stream: session, fence } = this.#claim;
    for (let attempt = 1; ; attempt++) {
      const callId = `layout_${session}_${attempt}`;
      const status = await this.#executor.callStatus({ session, fence, callId });
      if (isRefusal(status) || status.kind !== 'process') return callId;
      const { process } = status;
      const isSpent = process.state === 'lost' || (process.state === 'exited' && process.exitCode !== 0);
      if (!isSpent) return callId;
    }
  }

  async #carryAll(uploads: SessionConfig['uploads']): Promise<Ready> {
    for (const upload of uploads) {
      const carried = await this.#carry(upload.name, upload.blobSha256, upload.sizeBytes);
      if (!carried.ok) return carried;
    }
    return { ok: true };
  }

  async #carry(name: string, sha256: string, sizeBytes: number): Promise<Ready> {
    const { stream: session, fence, organization } = this.#claim;
    for (let offset = 0; offset === 0 || offset < sizeBytes; offset += pieceBytes) {
      const data = await this.#blobs.read(organization, sha256, offset, pieceBytes);
      if (!data) return { ok: false, message: `The file ${name} is not stored any more.` };
      const put = await this.#executor.putUpload({ session, fence, name, offset, data });
      if (isRefusal(put))
        return { ok: false, message: `The file ${name} could not be put into the sandbox: ${put.message}` };
    }
    return { ok: true };
  }
}

function shown(info: SandboxInfo): JsonObject {
  return {
    isolation: info.isolation,
    limits_by: info.limitsBy,
    ...(info.limits ? { limits: info.limits.map(({ limit, value, by }) => ({ limit, value, by })) } : {}),
    seccomp: info.seccomp,
    own_uid: info.ownUid !== null,
    network: info.network,
    warnings: info.warnings,
    ...(info.disk === undefined
      ? {}
      : { disk: { driver: info.disk.driver, limit_bytes: info.disk.limitBytes } }),
    ...(info.host === undefined ? {} : { host: info.host }),
  };
}
