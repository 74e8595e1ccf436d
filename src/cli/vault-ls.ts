/** `scriptorium vault ls`: vaults and what is in them. Values are shown nowhere; the server gives none away. */
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { CredentialObject } from './server/vaults.ts';
import { listCredentials, listVaults } from './server/vaults.ts';
import type { Terminal } from './terminal/terminal.ts';
import { oneLine } from './terminal/text.ts';

export async function vaultLs(
  options: ServerOptions & { json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const vaults = await listVaults(client);
  if (vaults.length === 0) terminal.err('no vaults yet; make one with: scriptorium vault create <name>');
  for (const vault of vaults) {
    const credentials = await listCredentials(client, vault.id);
    if (options.json === true) {
      terminal.out(JSON.stringify({ ...vault, credentials }));
      continue;
    }
    terminal.out(`${terminal.paint('bold', vault.id)}  ${oneLine(vault.display_name, 70)}`);
    for (const credential of credentials) terminal.out(`  ${lineOf(credential)}`);
  }
  return exitCodes.done;
}

function lineOf({ id, auth }: CredentialObject): string {
  const hosts = auth.networking?.allowed_hosts;
  const where = Array.isArray(hosts) ? hosts.join(', ') : auth.networking ? 'hosts of the environment' : '';
  const name = auth.secret_name ?? auth.mcp_server_url ?? '';
  return [id, auth.type.padEnd(20), oneLine(name, 60).padEnd(24), oneLine(where, 80)].join('  ').trimEnd();
}
