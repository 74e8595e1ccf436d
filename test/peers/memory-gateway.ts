/**
 * A gateway without a network: keeps the port's promises, and can misbehave as the real one may: gone, started anew,
 * saying what it saw twice.
 */
import {
  type Gateway,
  GatewayAway,
  type GatewayObservation,
  type GatewayOpened,
  type GatewayRefusal,
  type GatewaySession,
  GatewayUnreachable,
  type NetworkDecision,
} from '../../src/gateway/gateway.ts';

const unknown: GatewayRefusal = { refused: 'unknown_session', message: 'no such session' };

export class MemoryGateway implements Gateway {
  /** Every opening, in order. */
  readonly opened: GatewaySession[] = [];
  isAway = false;
  #isLinkBroken = false;
  refusal: GatewayRefusal | null = null;
  #generation = 1;
  #known = new Map<string, GatewayObservation[]>();
  #seen = Promise.withResolvers<void>();

  /** It dies and another one starts: sessions, and what was not acknowledged, are gone. */
  restart(): void {
    this.#generation++;
    this.#known = new Map();
    this.#notify();
  }

  /** As in a fleet: it lives on and sees, and nobody reaches it for a while. */
  breakLink(isBroken: boolean): void {
    this.#isLinkBroken = isBroken;
    this.#notify();
  }

  see(session: string, decision: Partial<NetworkDecision>): void {
    const list = this.#known.get(session);
    if (!list) throw new Error('it was never opened');
    const whole = { ...denied, ...decision };
    list.push({ session, seq: (list.at(-1)?.seq ?? 0) + 1, decision: whole });
    this.#notify();
  }

  async generation(): Promise<string> {
    this.#answer();
    return `generation-${this.#generation}`;
  }

  async openSession(session: GatewaySession): Promise<GatewayOpened | GatewayRefusal> {
    this.#answer();
    if (this.refusal) return this.refusal;
    this.opened.push(session);
    if (!this.#known.has(session.session)) this.#known.set(session.session, []);
    return { authorityPem: 'PEM' };
  }

  async closeSession({ session }: { session: string }): Promise<Record<string, never>> {
    this.#answer();
    this.#known.delete(session);
    this.#notify();
    return {};
  }

  /** What is acknowledged is kept all the same, and said again to whoever asks from the beginning. */
  async observe(request: { session: string; acknowledge: number; waitMs: number }) {
    this.#answer();
    const news = () =>
      this.#known.get(request.session)?.filter(({ seq }) => seq > request.acknowledge) ?? null;
    if (news()?.length === 0) {
      const waited = new Promise((resolve) => setTimeout(resolve, request.waitMs).unref());
      await Promise.race([this.#seen.promise, waited]);
    }
    this.#answer();
    return news() ?? unknown;
  }

  #answer(): void {
    if (this.#isLinkBroken) throw new GatewayAway('the link broke');
    if (this.isAway) throw new GatewayUnreachable('the gateway is away');
  }

  #notify(): void {
    this.#seen.resolve();
    this.#seen = Promise.withResolvers();
  }
}

const denied: NetworkDecision = {
  ...({ decision: 'denied', protocol: 'tls', host: 'evil.example', port: 443, rule: 'otherwise' } as const),
  ...{ reason: 'no rule allows it', method: null, path: null, credentials: [], count: 1 },
  ...{ bytesSent: 0, bytesReceived: 0, firstAtMs: 1_700_000_000_000, lastAtMs: 1_700_000_000_001 },
};
