/**
 * A session's way out, as its engine holds it: opens it at the gateway before the sandbox is made, keeps it as the log
 * says, and writes down what the gateway saw.
 *
 * - S1: secrets go from the vault to the gateway. The sandbox's specification has placeholders and a ticket.
 * - S4: a gateway that cannot be had is a sandbox that is not started.
 * - L3: what the gateway saw is appended from outside, once per (gateway's generation, number).
 */
import { createHash } from 'node:crypto';
import type { Gateway, GatewayObservation, GatewaySession, NetworkDecision } from '../gateway/gateway.ts';
import { GatewayAway, GatewayUnreachable } from '../gateway/gateway.ts';
import type { BoundCredential, NetworkPolicy } from '../gateway/policy.ts';
import { newId } from '../protocol/ids.ts';
import { canonicalJson, type JsonObject } from '../protocol/json.ts';
import type { SandboxSpec } from '../sandbox/executor.ts';
import { HostAway, HostUnreachable } from '../sandbox/executor.ts';
import type { DraftOf } from '../session/events.ts';
import type { SessionConfig, SessionState } from '../session/state.ts';
import type { Claim, Store } from '../store/store.ts';
import { asNew } from './drive.ts';

export type SessionSecrets = {
  env: Record<string, string>;
  credentials: BoundCredential[];
  /** What is wrong with some of them, as `session.error` says it. */
  unreachable: SessionProblem[];
};

type SessionProblem = { type: string; message: string } & JsonObject;

export type NetworkParts = {
  store: Store;
  /** The gateway on the machine of that host; null where there is none. */
  gatewayAt(host: string | null): Gateway | null;
  /** Absent: there is one host, which is ours. */
  hosts?: {
    /** Where a session without a place finds host and gateway together; null where nowhere. */
    choose(session: string): string | null;
    /** Throws `HostAway` where it is not connected. */
    check(host: string): void;
  };
  /** Null where the session reaches nobody. */
  policyOf(state: SessionState): NetworkPolicy | null;
  /** From the vault; asked at every claim, so that rotation reaches running sessions. */
  secretsOf(claim: Claim, config: SessionConfig): Promise<SessionSecrets>;
  /** For this opening alone; `policyHash` in hex. */
  mintTicket(claim: Claim, config: SessionConfig, policyHash: string): Promise<string>;
  /** The session is over: its ticket is worth nothing from then on. */
  revokeTicket(claim: Claim): Promise<void>;
  onError(error: unknown, session: string): void;
  /** How long a gateway is asked for news at a time; a session that ended is noticed as late. */
  observeMs?: number;
};

export type Way = {
  network: NonNullable<SandboxSpec['network']>;
  env: Record<string, string>;
  unreachable: SessionProblem[];
  /** The host beside the gateway, for a session that had no place. */
  host?: string;
};

/** The way out is away and its host is there: the session waits in the store as it does for a host, and gives up neither. */
class WayOutAway extends HostAway {
  constructor(message: string) {
    super(null, 0);
    this.message = message;
  }
}

type Open = {
  gateway: Gateway;
  generation: string;
  fence: number;
  /** Of what the gateway was told: it is told again where this changes. */
  digest: string;
  way: Way;
};

const nothing = { env: {}, unreachable: [] };

/** Unused for so long, the gateway forgets a session; its next sandbox or call opens it anew. */
export const ticketIdleMs = 20 * 60_000;
export const ticketLifeMs = 24 * 60 * 60_000;
const observeMs = 20_000;
const afterFailureMs = 1_000;

export class SessionNetworks {
  readonly #parts: NetworkParts;
  readonly #open = new Map<string, Open>();
  readonly #bringing = new Map<string, Promise<unknown>>();
  #isOver = false;

  constructor(parts: NetworkParts) {
    this.#parts = parts;
  }

  /** What the next sandbox of this session is to be made with, or why it cannot be. Rejects as hosts do. */
  async ready(claim: Claim, state: SessionState, host: string | null): Promise<Way | { problem: string }> {
    const policy = this.#parts.policyOf(state);
    const { config } = state;
    if (!policy || !config) {
      // What names no host may still name secrets: their variables are there, and are of no use.
      const { env, unreachable } = config?.vaultIds?.length
        ? await this.#parts.secretsOf(claim, config)
        : nothing;
      return { network: { kind: 'none' }, env, unreachable };
    }
    const place = host ?? this.placeFor(claim, state);
    // A machine that is gone is given up as a host, not waited for as a gateway.
    if (place !== null) this.#parts.hosts?.check(place);
    const gateway = this.#parts.gatewayAt(place);
    if (!gateway)
      return {
        problem:
          'this session may use the network, and there is no gateway beside its host. See `scriptorium doctor`.',
      };
    try {
      const way = await this.#bring(claim, config, { gateway, policy });
      return 'problem' in way || host !== null || place === null ? way : { ...way, host: place };
    } catch (error) {
      // The session waits for its gateway as it would for its host.
      if (error instanceof GatewayAway) throw new WayOutAway(error.message);
      if (error instanceof GatewayUnreachable) throw new HostUnreachable(error.message);
      throw error;
    }
  }

  /** Where a session without a place is to go for its way out; null where any host is as good. Throws as hosts reject. */
  placeFor(claim: Claim, state: SessionState): string | null {
    return this.#parts.policyOf(state) ? (this.#parts.hosts?.choose(claim.stream) ?? null) : null;
  }

  /** The log says something new about hosts: it holds at once, for connections that wait for it, too. */
  learn(claim: Claim, state: SessionState): void {
    const open = this.#open.get(claim.stream);
    const policy = open && this.#parts.policyOf(state);
    if (!open || !policy || !state.config) return;
    if (open.fence === claim.fence && digestOf(policy) === open.digest.split(' ', 1)[0]) return;
    this.#bring(claim, state.config, { gateway: open.gateway, policy }).catch((error: unknown) =>
      this.#parts.onError(error, claim.stream),
    );
  }

  stop(): void {
    this.#isOver = true;
  }

  /** One at a time for each session: of two tickets the gateway would know the later one only. */
  #bring(
    claim: Claim,
    config: SessionConfig,
    to: { gateway: Gateway; policy: NetworkPolicy },
  ): Promise<Way | { problem: string }> {
    const before = this.#bringing.get(claim.stream) ?? Promise.resolve();
    const brought = before.then(() => this.#bringNow(claim, config, to));
    const settled = brought.catch(() => undefined);
    this.#bringing.set(claim.stream, settled);
    void settled.then(() => {
      if (this.#bringing.get(claim.stream) === settled) this.#bringing.delete(claim.stream);
    });
    return brought;
  }

  async #bringNow(
    claim: Claim,
    config: SessionConfig,
    { gateway, policy }: { gateway: Gateway; policy: NetworkPolicy },
  ): Promise<Way | { problem: string }> {
    const { stream: session, fence } = claim;
    const { env, credentials, unreachable } = await this.#parts.secretsOf(claim, config);
    const generation = await gateway.generation();
    const before = this.#open.get(session);
    const digest = `${digestOf(policy)} ${digestOf(credentials)}`;
    const isSame = before?.generation === generation && before.fence === fence && before.digest === digest;
    if (isSame) return before.way;
    const ticket = await this.#parts.mintTicket(claim, config, digestOf(policy));
    const wanted: GatewaySession = {
      ...{ session, fence, policy, credentials, ticket, ticketIdleMs, ticketLifeMs },
    };
    const opened = await gateway.openSession(wanted);
    if ('refused' in opened) return { problem: `the gateway refused: ${opened.message}` };
    const network = { kind: 'gateway' as const, ticket, authorityPem: opened.authorityPem };
    const way: Way = { network, env, unreachable };
    const open: Open = { gateway, generation, fence, digest, way };
    // Its machine was given up: a gateway that lives on there forgets the secrets.
    if (before && before.gateway !== gateway)
      before.gateway.closeSession({ session, fence }).catch(() => undefined);
    this.#open.set(session, open);
    void this.#observe(claim, open);
    return way;
  }

  /** Until the gateway forgets the session, or another opening of it takes over. */
  async #observe(claim: Claim, open: Open): Promise<void> {
    const { stream: session } = claim;
    let acknowledge = 0;
    let patienceEndsMs = performance.now() + ticketIdleMs;
    // Numbers of one gateway mean nothing at the next.
    const isStillIt = async () => (await open.gateway.generation()) === open.generation;
    while (!this.#isOver && this.#open.get(session) === open) {
      try {
        if (!(await isStillIt())) break;
        const seen = await open.gateway.observe({
          session,
          acknowledge,
          waitMs: this.#parts.observeMs ?? observeMs,
        });
        if ('refused' in seen || !(await isStillIt())) break;
        patienceEndsMs = performance.now() + ticketIdleMs;
        if (seen.length === 0 && (await this.#isOverNow(claim))) return await this.#end(claim, open);
        for (const observation of seen) {
          if (!(await this.#write(claim, open.generation, observation))) return this.#forget(session, open);
          acknowledge = observation.seq;
        }
      } catch (error) {
        // A gateway that is gone has nothing more to say; one whose link broke, or a store that is gone, is asked again.
        const isAway = error instanceof GatewayAway && performance.now() < patienceEndsMs;
        if (error instanceof GatewayUnreachable && !isAway) break;
        if (this.#isOver) break;
        if (!isAway) this.#parts.onError(error, session);
        await new Promise((resolve) => setTimeout(resolve, afterFailureMs).unref());
      }
    }
    this.#forget(session, open);
  }

  /** Archived or deleted: nobody may use its way any more. */
  async #isOverNow({ organization, project, stream }: Claim): Promise<boolean> {
    const row = await this.#parts.store.stream({ organization, project }, stream);
    return (
      !row ||
      row.erased ||
      row.summary === null ||
      row.summary.archived_at !== null ||
      row.summary.deleted === true
    );
  }

  async #end(claim: Claim, open: Open): Promise<void> {
    const { stream: session, fence } = claim;
    this.#forget(session, open);
    await this.#parts.revokeTicket(claim);
    await open.gateway.closeSession({ session, fence });
  }

  #forget(session: string, open: Open): void {
    if (this.#open.get(session) === open) this.#open.delete(session);
  }

  /** False where the session is no more. */
  async #write(claim: Claim, generation: string, { seq, decision }: GatewayObservation): Promise<boolean> {
    const { organization, project, stream } = claim;
    const event: DraftOf<'network.decision'> = {
      id: newId('event'),
      type: 'network.decision',
      actor: `gateway:${generation}`,
      ...{ thread: null, turn: null, call: null, causation: null },
      audience: 'public',
      public: shown(decision),
      private: null,
    };
    const request = { key: `network:${generation}:${seq}`, hash: digestOf(shown(decision)) };
    const written = await this.#parts.store.append({
      ...{ organization, project, stream, request },
      events: [asNew(event)],
    });
    return written.status === 'ok' || written.status === 'duplicate';
  }
}

function digestOf(value: object): string {
  return createHash('sha256')
    .update(canonicalJson(value as JsonObject))
    .digest('hex');
}

function shown(decision: NetworkDecision): DraftOf<'network.decision'>['public'] {
  const { host, port, rule, reason, method, path, count, protocol } = decision;
  return {
    ...{ decision: decision.decision, protocol, host, port, rule, reason, method, path },
    credential_ids: decision.credentials,
    count,
    bytes_sent: decision.bytesSent,
    bytes_received: decision.bytesReceived,
    first_at: new Date(decision.firstAtMs).toISOString(),
    last_at: new Date(decision.lastAtMs).toISOString(),
  };
}
