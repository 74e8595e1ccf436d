/**
 * `scriptorium host-token`: mints what a host, or the gateway beside it, needs to join, from the cluster secret, here: nothing is asked. `list` and
 * `revoke` ask a server.
 */
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { Terminal } from './terminal/terminal.ts';

export type HostTokenOptions = { clusterSecretFile?: string; name?: string; gateway?: boolean };

export async function hostToken(options: HostTokenOptions, terminal: Terminal): Promise<ExitCode> {
  if (options.clusterSecretFile === undefined)
    throw new Refused('a token is made from the secret of the fleet: --cluster-secret-file', {
      exitCode: exitCodes.usage,
    });
  const { clusterSecretFile, name, gateway } = options;
  if (gateway && name === undefined)
    throw new Refused('a gateway has the name of the host beside it: --name', { exitCode: exitCodes.usage });
  const main = await import('../main.ts');
  try {
    const token =
      gateway && name !== undefined
        ? main.gatewayToken(clusterSecretFile, name)
        : main.hostToken(clusterSecretFile, name);
    terminal.out(token);
  } catch (error) {
    if ((error as Error).name !== 'BadSecret') throw error;
    throw new Refused((error as Error).message);
  }
  return exitCodes.done;
}

type Listed = { name: string; status: string; hosts: string[]; revoked_at?: string; reason?: string };

export async function listHostTokens(
  options: ServerOptions & { json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const { data } = (await client.get('/v1/host_tokens')) as unknown as { data: Listed[] };
  for (const token of data) {
    const { name, status, hosts, revoked_at: at, reason } = token;
    const about = status === 'revoked' ? `${at ?? ''}  ${reason ?? ''}` : hosts.join(' ');
    terminal.out(options.json === true ? JSON.stringify(token) : `${name}  ${status}  ${about}`);
  }
  return exitCodes.done;
}

export async function revokeHostToken(
  name: string,
  options: ServerOptions & { reason?: string },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const body = options.reason === undefined ? {} : { reason: options.reason };
  await client.post(`/v1/host_tokens/${encodeURIComponent(name)}/revoked`, { json: body });
  terminal.err(`the token of ${name} is revoked; a machine that is to go on needs one of another name`);
  return exitCodes.done;
}
