/** Whether an environment lets a credential's hosts be reached at all. What is let through is the gateway's to decide. Pure. */
import type { CredentialAuth } from '../../protocol/vaults.ts';
import type { EnvironmentNetworking } from './session-credentials.ts';

export type CredentialNetworking = Extract<CredentialAuth, { type: 'environment_variable' }>['networking'];

/**
 * The hosts a secret is bound to, or why it is bound to none: of a limited credential its own, where one of them at
 * least is allowed; of an unrestricted one those that the environment names. Where neither names a host the secret
 * would follow its placeholder to anybody who is told it, so it is bound to none (S4).
 */
export function hostsReachable(
  credential: CredentialNetworking,
  environment: EnvironmentNetworking,
): { hosts: string[] } | { refused: string } {
  const allowed = environment.type === 'limited' ? environment.allowed_hosts : null;
  if (credential.type === 'unrestricted') {
    if (allowed === null)
      return {
        refused: 'neither the credential nor the environment names a host; name hosts in one of them',
      };
    return allowed.length > 0
      ? { hosts: [...allowed] }
      : { refused: 'the environment allows no host, so this credential can be sent nowhere' };
  }
  const hosts = credential.allowed_hosts;
  const isReachable = allowed === null || hosts.some((host) => allowed.some((other) => overlap(host, other)));
  return isReachable
    ? { hosts: [...hosts] }
    : {
        refused: `the environment does not allow ${hosts.join(', ')}, so this credential can be sent nowhere`,
      };
}

/** Whether two patterns have a host in common. */
function overlap(one: string, other: string): boolean {
  const [a, b] = [one, other].map((text) => text.toLowerCase().replace(/\.$/, '')) as [string, string];
  if (a === b) return true;
  return isBelow(a, b) || isBelow(b, a);
}

function isBelow(host: string, pattern: string): boolean {
  return pattern.startsWith('*.') && host.endsWith(pattern.slice(1));
}
