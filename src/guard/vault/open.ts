/** The vault of a server, from its environment: where its keys are, and where its own requests may go. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { masterKeyPath } from '../../store/master-key.ts';
import type { Store } from '../../store/store.ts';
import type { Kek } from './kek.ts';
import { keyServiceKek } from './key-service.ts';
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
  const kek = keyServiceOf(environment);
  return openVault({
    ...{ store, nowMs },
    masterKeyFile: masterKeyFile ?? masterKeyPath(path.join(dataDir, 'store')),
    mayMakeKeys: masterKeyFile === undefined,
    outbound: outbound({ ...outboundDefaults, allowPrivate }),
    ...(kek ? { kek } : {}),
  });
}

const keyServiceTimeoutMs = 5_000;

/** The operator names it, so it may be in the operator's own network. */
function keyServiceOf(environment: Record<string, string | undefined>): Kek | null {
  const url = environment.SCRIPTORIUM_VAULT_KMS_URL;
  if (!url) return null;
  const tokenFile = environment.SCRIPTORIUM_VAULT_KMS_TOKEN_FILE;
  const caFile = environment.SCRIPTORIUM_VAULT_KMS_CA_FILE;
  const limits = { ...outboundDefaults, timeoutMs: keyServiceTimeoutMs, allowPrivate: true };
  return keyServiceKek({
    url: url.replace(/\/+$/, ''),
    token: tokenFile ? readFileSync(tokenFile, 'utf8').trim() : null,
    send: outbound({ ...limits, ...(caFile ? { ca: readFileSync(caFile, 'utf8') } : {}) }),
  });
}
