/** Whether an environment lets a credential's hosts be reached at all. What is let through is the gateway's to decide. Pure. */
import type { NetworkPolicy } from '../../gateway/policy.ts';
import type { Networking } from '../../protocol/environments.ts';
import type { CredentialAuth } from '../../protocol/vaults.ts';
import { networkPolicy } from '../network-policy.ts';

export type CredentialNetworking = Extract<CredentialAuth, { type: 'environment_variable' }>['networking'];

/**
 * The hosts a secret is bound to, or why it is bound to none: of a limited credential its own, where one of them at
 * least may be reached (package registries, rules and hosts that are asked for count); of an unrestricted one the
 * environment's `allowed_hosts`. Where neither names a host the secret would follow its placeholder to anybody who is
 * told it, so it is bound to none (S4).
 */
export function hostsReachable(
  credential: CredentialNetworking,
  environment: Networking,
): { hosts: string[] } | { refused: string } {
  if (credential.type === 'unrestricted') {
    if (environment.type === 'unrestricted')
      return {
        refused: 'neither the credential nor the environment names a host; name hosts in one of them',
      };
    return environment.allowed_hosts.length > 0
      ? { hosts: [...environment.allowed_hosts] }
      : { refused: 'the environment allows no host, so this credential can be sent nowhere' };
  }
  const hosts = credential.allowed_hosts;
  const policy = networkPolicy(environment, [], []);
  return hosts.some((host) => mayReach(policy, host))
    ? { hosts: [...hosts] }
    : {
        refused: `the environment does not allow ${hosts.join(', ')}, so this credential can be sent nowhere`,
      };
}

/** Some request to some host of the pattern; deny wins where it covers the whole of it. */
function mayReach({ rules, otherwise }: NetworkPolicy, host: string): boolean {
  const isDenied = rules.some(
    ({ effect, hosts, ports, methods, paths }) =>
      effect === 'deny' && !ports && !methods && !paths && hosts.some((other) => covers(other, host)),
  );
  if (isDenied) return false;
  if (otherwise !== 'deny') return true;
  return rules.some(
    ({ effect, hosts }) =>
      effect !== 'deny' && hosts.some((other) => covers(other, host) || covers(host, other)),
  );
}

/** Whether every host of `inner` is one of `outer`. */
function covers(outer: string, inner: string): boolean {
  const [a, b] = [outer, inner].map((text) => text.toLowerCase().replace(/\.$/, '')) as [string, string];
  return a === b || (a.startsWith('*.') && b.endsWith(a.slice(1)));
}
