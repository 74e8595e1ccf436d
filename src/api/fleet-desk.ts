/**
 * What the API says of a fleet, and does for it: hosts, workers, and whom a host is to dial. Handed in by `main.ts`.
 */
import { HostLosses, type LostHost } from '../engine/host-losses.ts';
import { HostTokens } from '../engine/host-tokens.ts';
import { gatewayNameOf, hostNameOf, whoProved } from '../link/secret.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { HostView } from '../sandbox/fleet/fleet.ts';
import type { Store } from '../store/store.ts';
import { engineAddresses } from './engine-links.ts';

export type FleetDesk = {
  hosts(): Promise<HostView[]>;
  lost(): Promise<LostHost[]>;
  declareLost(host: string, actor: string, reason: string): Promise<void>;
  /** What is known of the tokens with which hosts join; null where none can. */
  tokens: Pick<HostTokens, 'revoked' | 'revoke'> | null;
  workers(): Promise<{ worker: string; info: JsonObject }[]>;
  /** The engines to dial, for a host or gateway that proves itself; null for anybody else. */
  join(authorization: string): Promise<string[] | null>;
};

/** Without a secret nobody can join. */
export function fleetDesk(store: Store, hosts: () => Promise<HostView[]>, secret: Buffer | null): FleetDesk {
  const losses = new HostLosses(store, Number.POSITIVE_INFINITY);
  const tokens = new HostTokens(store);
  return {
    hosts,
    lost: () => losses.list(),
    declareLost: (host, actor, reason) => losses.declare(host, actor, reason),
    tokens: secret === null ? null : tokens,
    workers: () => store.workers(),
    async join(authorization) {
      const identity = secret === null ? null : whoProved(secret, authorization, Date.now());
      const name = identity === null ? null : (hostNameOf(identity) ?? gatewayNameOf(identity));
      if (name === null || (await tokens.isRevoked(name))) return null;
      return engineAddresses(store);
    },
  };
}
