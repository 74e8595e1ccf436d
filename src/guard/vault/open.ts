/** The vault of a server, from its environment: where its keys are, and where its own requests may go. */
import path from 'node:path';
import { masterKeyPath } from '../../store/master-key.ts';
import type { Store } from '../../store/store.ts';
import { outbound, outboundDefaults } from './oauth/outbound.ts';
import type { Vault } from './vault.ts';
import { openVault } from './vault.ts';

export type ServerVault = {
  store: Store;
  dataDir: string;
  /** Of a fleet. Absent: the store's own in the data directory, whose key files are ours to make. */
  masterKeyFile?: string;
  nowMs(): number;
};

export function openServerVault(
  { store, dataDir, masterKeyFile, nowMs }: ServerVault,
  environment: Record<string, string | undefined> = process.env,
): Vault {
  const allowPrivate = environment.SCRIPTORIUM_VAULT_ALLOW_PRIVATE === '1';
  return openVault({
    ...{ store, nowMs },
    masterKeyFile: masterKeyFile ?? masterKeyPath(path.join(dataDir, 'store')),
    mayMakeKeys: masterKeyFile === undefined,
    outbound: outbound({ ...outboundDefaults, allowPrivate }),
  });
}
