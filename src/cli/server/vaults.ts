/** Vaults as the command line sees them, and how one is named: by its id or its display name. */
import type { JsonObject } from '../../protocol/json.ts';
import { exitCodes, Refused } from '../ending.ts';
import type { Client } from './client.ts';
import { listAll } from './pages.ts';

export type VaultObject = {
  id: string;
  display_name: string;
  created_at: string;
  archived_at: string | null;
};

export type CredentialObject = {
  id: string;
  auth: { type: string; secret_name?: string; mcp_server_url?: string; networking?: JsonObject };
};

export async function listVaults(client: Client): Promise<VaultObject[]> {
  return listAll<VaultObject>(client, '/v1/vaults');
}

export async function listCredentials(client: Client, vaultId: string): Promise<CredentialObject[]> {
  return listAll<CredentialObject>(client, `/v1/vaults/${encodeURIComponent(vaultId)}/credentials`);
}

/** The id of the vault that was typed. */
export async function resolveVault(client: Client, typed: string): Promise<string> {
  const found = (await listVaults(client)).filter(
    ({ id, display_name }) => id === typed || display_name === typed,
  );
  const [only] = found;
  if (only !== undefined && found.length === 1) return only.id;
  throw new Refused(
    only === undefined ? `there is no vault ${typed}` : `${found.length} vaults are called ${typed}`,
    {
      exitCode: exitCodes.usage,
      hint:
        only === undefined ? 'scriptorium vault ls shows them' : 'give the id of one: scriptorium vault ls',
    },
  );
}
