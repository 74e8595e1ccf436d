/** `scriptorium vault create`: makes a vault and prints its id. */
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { VaultObject } from './server/vaults.ts';
import type { Terminal } from './terminal/terminal.ts';

export async function vaultCreate(
  name: string,
  options: ServerOptions & { json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const vault = await client.post<VaultObject>('/v1/vaults', { json: { display_name: name } });
  terminal.out(options.json === true ? JSON.stringify(vault) : vault.id);
  return exitCodes.done;
}
