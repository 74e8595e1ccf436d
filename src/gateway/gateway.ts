/**
 * The gateway port: what an engine may ask of the only way out (S2). The gateway is a process of its own, with its own
 * uid where it can have one; secrets go to it and to nobody else (S1).
 *
 * Contract: endings are values; methods reject with `GatewayUnreachable` when the process cannot be reached. A gateway
 * that has restarted knows no session: `generation` tells, and whoever needs a session opens it again.
 */
import type { BoundCredential, NetworkPolicy } from './policy.ts';

export class GatewayUnreachable extends Error {
  override name = 'GatewayUnreachable';
}

/** A `GatewayUnreachable` of a fleet: the gateway comes back by itself, or another in its place; it is waited for. */
export class GatewayAway extends GatewayUnreachable {
  override name = 'GatewayAway';
}

export type GatewaySession = {
  session: string;
  /** A lower one than the session's highest is refused, as by a host. */
  fence: number;
  policy: NetworkPolicy;
  credentials: BoundCredential[];
  /** Minted for this session and nothing else; presented with the sandbox's sockets. Dies with the session. */
  ticket: string;
  /** Unused for so long, or this old, the ticket is worth nothing. Milliseconds. */
  ticketIdleMs: number;
  ticketLifeMs: number;
};

export type GatewayOpened = {
  /** Certificate of the session's own authority, which signs what is terminated. PEM. */
  authorityPem: string;
};

export type GatewayRefusal = { refused: 'fenced' | 'invalid' | 'unknown_session'; message: string };

/** What was let through or not, summed over a moment: one record for the same host, port, rule and ending. */
export type NetworkDecision = {
  decision: 'allowed' | 'denied' | 'asked';
  protocol: 'dns' | 'tcp' | 'tls' | 'http' | 'https';
  host: string;
  port: number | null;
  /** Id of the rule, or `otherwise`, or null where no rule was asked (a private address, a spoofed name). */
  rule: string | null;
  /** Why not, in words a person understands; null where allowed. */
  reason: string | null;
  /** Of the last request, where it was seen. */
  method: string | null;
  path: string | null;
  /** Ids of credentials that were put in. */
  credentials: string[];
  count: number;
  bytesSent: number;
  bytesReceived: number;
  firstAtMs: number;
  lastAtMs: number;
};

/** `seq` counts per session and generation; the receiver appends idempotently by (generation, seq). */
export type GatewayObservation = { session: string; seq: number; decision: NetworkDecision };

export interface Gateway {
  /** Changes with every start of the process. */
  generation(): Promise<string>;
  /** Opens the session or replaces its policy and credentials; its authority and connections stay. */
  openSession(session: GatewaySession): Promise<GatewayOpened | GatewayRefusal>;
  /** Ends its connections and forgets its secrets. Idempotent. */
  closeSession(request: { session: string; fence: number }): Promise<Record<string, never> | GatewayRefusal>;
  /** Waits up to `waitMs` for observations after those acknowledged; the same until `acknowledge`. */
  observe(request: {
    session: string;
    acknowledge: number;
    waitMs: number;
  }): Promise<GatewayObservation[] | GatewayRefusal>;
}
