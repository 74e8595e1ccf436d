/**
 * One session as the gateway knows it: its rules, its secrets (in this memory only, S1), its names, its authority, its
 * connections, and what was decided. Replacing the policy keeps connections that it still allows; closing ends them all.
 */
import type { Socket } from 'node:net';
import { failpoints, sabotaged } from '../protocol/failpoint.ts';
import { type Authority, createAuthority } from './authority.ts';
import { type CompiledCredential, compileCredentials } from './credentials.ts';
import { type DecisionDetail, type DecisionKey, DecisionLog, type DecisionLogSettings } from './decisions.ts';
import { FakeAddresses } from './fake-addresses.ts';
import type { GatewaySession } from './gateway.ts';
import { canonicalHost, type FieldProblem, isProblem, matchesHost } from './pattern.ts';
import type { NetworkCaps } from './policy.ts';
import {
  compilePolicy,
  type Decision,
  decideConnection,
  mayResolve,
  namesAddress,
  type Rules,
} from './rules.ts';

export type SessionSettings = DecisionLogSettings & {
  /** How long a connection or request waits for somebody's answer, and for how long then nothing. */
  askHoldMs?: number;
  now?: () => number;
};

/** One connection of the sandbox, from accept to close. */
export type Carriage = {
  socket: Socket;
  host: string;
  port: number;
  /** A tunnel is opaque: once its place is denied, or wants its requests judged, it must end. */
  opaque: boolean;
  /** Under way on it; HTTP/2, and HTTP/1.1 without waiting for answers, has many at once. */
  requests: number;
};

/** Each holds up to some 150 KB of head and body while it waits, in a memory that all sessions share. */
const maxRequests = 512;

type Terms = { rules: Rules; credentials: CompiledCredential[]; caps: NetworkCaps };

export class LiveSession {
  readonly id: string;
  readonly authority: Authority;
  readonly names = new FakeAddresses();
  readonly log: DecisionLog;
  readonly askHoldMs: number;
  /** When bytes last went by; a session at work on one long connection is in use. */
  usedAtMs = 0;
  readonly #now: () => number;
  #terms: Terms;
  #closed = false;
  readonly #carriages = new Set<Carriage>();
  readonly #bytes = new Map<string, number>();
  readonly #waiting = new Set<() => void>();
  readonly #onClose = new Set<() => void>();
  readonly #onPolicy = new Set<() => void>();

  private constructor(
    id: string,
    parts: { authority: Authority; terms: Terms; log: DecisionLog },
    settings: SessionSettings,
  ) {
    this.id = id;
    this.authority = parts.authority;
    this.#terms = parts.terms;
    this.log = parts.log;
    this.askHoldMs = settings.askHoldMs ?? 120_000;
    this.#now = settings.now ?? Date.now;
  }

  /** `log` of the same session, closed before: its numbers go on, and what was not read yet is not lost. */
  static async open(
    opened: GatewaySession,
    settings: SessionSettings,
    log = new DecisionLog(settings),
  ): Promise<LiveSession | FieldProblem> {
    const terms = compileTerms(opened);
    if (isProblem(terms)) return terms;
    const authority = await createAuthority(opened.session);
    return new LiveSession(opened.session, { authority, terms, log }, settings);
  }

  /** All or nothing: with a problem, everything stays as it was. */
  replace(opened: Pick<GatewaySession, 'policy' | 'credentials'>): FieldProblem | null {
    const terms = compileTerms(opened);
    if (isProblem(terms)) return terms;
    this.#terms = terms;
    for (const { socket, host, port, opaque } of this.#carriages) {
      const now = decideConnection(terms.rules, host, port);
      if (opaque && (now.effect === 'deny' || now.perRequest)) socket.resetAndDestroy();
    }
    for (const look of [...this.#onPolicy]) look();
    for (const wake of [...this.#waiting]) wake();
    return null;
  }

  close(): void {
    this.#closed = true;
    this.#terms = { ...this.#terms, rules: { list: [], otherwise: 'deny' }, credentials: [] };
    for (const end of this.#onClose) end();
    for (const { socket } of this.#carriages) socket.resetAndDestroy();
    for (const wake of [...this.#waiting]) wake();
    this.log.flush();
  }

  /** Runs at close; for what is kept open on the far side. */
  onClose(end: () => void): void {
    this.#onClose.add(end);
  }

  /** Runs at every new policy, for what was let through under an older one; gives how to end that. */
  onPolicy(look: () => void): () => void {
    this.#onPolicy.add(look);
    return () => void this.#onPolicy.delete(look);
  }

  get closed(): boolean {
    return this.#closed;
  }

  get rules(): Rules {
    return this.#terms.rules;
  }

  /** Those that may go to this host. */
  credentialsFor(host: string): CompiledCredential[] {
    return this.#terms.credentials.filter((one) => one.hosts.some((pattern) => matchesHost(pattern, host)));
  }

  /** The address a name is given, or null where it may not be reached. */
  resolve(name: string): string | null {
    if (failpoints.on && sabotaged('sabotage.any-name')) return this.names.addressOf(name);
    if (this.#closed || this.log.backlogged) return null;
    if (mayResolve(this.rules, name)) return this.names.addressOf(name);
    this.log.record({
      ...{ protocol: 'dns', host: name, port: null, rule: null, decision: 'denied' },
      reason: 'no rule lets anything of this name be reached',
    });
    return null;
  }

  /** What a destination stands for, or null where the sandbox made the address up. */
  hostAt(address: string): string | null {
    const name = this.names.nameOf(address);
    if (name !== null) return name;
    const literal = canonicalHost(address);
    return literal !== null && namesAddress(this.rules, literal) ? literal : null;
  }

  /** Null: admitted, until its socket closes. Else why not. */
  admit(carriage: Carriage): string | null {
    const { connections, connectionsPerHost } = this.#terms.caps;
    if (this.#closed) return 'the session is closed';
    if (this.log.backlogged) return 'too many decisions wait to be read';
    if (this.#carriages.size >= connections) return `more than ${connections} connections`;
    const alike = [...this.#carriages].filter(({ host }) => host === carriage.host).length;
    if (alike >= connectionsPerHost) return `more than ${connectionsPerHost} connections to this host`;
    if (this.spent(carriage.host)) return 'the cap on bytes for this host is reached';
    this.#carriages.add(carriage);
    carriage.socket.once('close', () => this.#carriages.delete(carriage));
    return null;
  }

  /** One more request: false where there are too many. Over at `carriage.requests -= 1`, or with its connection. */
  enter(carriage: Carriage): boolean {
    const underWay = [...this.#carriages].reduce((sum, { requests }) => sum + requests, 0);
    if (underWay >= maxRequests) return false;
    carriage.requests += 1;
    return true;
  }

  spent(host: string): boolean {
    if (failpoints.on && sabotaged('sabotage.no-byte-cap')) return false;
    const cap = this.#terms.caps.bytesPerHost;
    return cap !== null && (this.#bytes.get(host) ?? 0) >= cap;
  }

  /** Bytes went by. The connections of a host that has had its share end. */
  carried(key: DecisionKey, sent: number, received: number): void {
    this.usedAtMs = this.#now();
    this.log.bytes(key, sent, received);
    this.#bytes.set(key.host, (this.#bytes.get(key.host) ?? 0) + sent + received);
    if (!this.spent(key.host)) return;
    this.log.record({ ...key, decision: 'denied', reason: 'the cap on bytes for this host is reached' });
    for (const { socket, host } of this.#carriages) if (host === key.host) socket.resetAndDestroy();
  }

  /**
   * Decides, and where the answer is `ask`, says so in the log and waits for a policy that knows better, for as long as
   * the asker is there. Never ends in `ask`.
   */
  async settle<T extends Decision>(
    key: Omit<DecisionKey, 'decision' | 'rule' | 'reason'>,
    evaluate: () => T,
    asker: Socket,
    detail: DecisionDetail = {},
  ): Promise<T> {
    let decision = evaluate();
    if (decision.effect !== 'ask') return decision;
    this.log.record({ ...key, decision: 'asked', rule: decision.rule, reason: 'somebody is asked' }, detail);
    const untilMs = performance.now() + this.askHoldMs;
    while (decision.effect === 'ask') {
      const restMs = untilMs - performance.now();
      if (restMs <= 0 || asker.destroyed || this.#closed) {
        return { ...decision, effect: 'deny', reason: 'nobody allowed it in time' };
      }
      await this.#changed(restMs, asker);
      decision = evaluate();
    }
    return decision;
  }

  #changed(waitMs: number, asker: Socket): Promise<void> {
    return new Promise((done) => {
      const wake = () => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        asker.off('close', wake);
        done();
      };
      const timer = setTimeout(wake, waitMs);
      this.#waiting.add(wake);
      asker.once('close', wake);
    });
  }
}

function compileTerms(opened: Pick<GatewaySession, 'policy' | 'credentials'>): Terms | FieldProblem {
  const rules = compilePolicy(opened.policy);
  if (isProblem(rules)) return rules;
  const credentials = compileCredentials(opened.credentials);
  if (isProblem(credentials)) return credentials;
  return { rules, credentials, caps: opened.policy.caps };
}
