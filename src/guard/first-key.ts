import { defaultTenant } from '../protocol/tenant.ts';
import type { Store } from '../store/store.ts';
import { createApiKey, identify, storeApiKey } from './identity.ts';

const actor = 'operator:startup';

export type KeyChoice = { apiKey?: string; knownApiKey?: string };

/** The operator's key, the one that was good before, or a fresh one. Only hashes are stored (S1). */
export async function firstKey(store: Store, { apiKey, knownApiKey }: KeyChoice): Promise<string> {
  const nowMs = Date.now();
  if (apiKey !== undefined) {
    await storeApiKey(store, { key: apiKey, name: 'environment', actor, nowMs });
    return apiKey;
  }
  if (knownApiKey !== undefined && (await identify(store, knownApiKey))) return knownApiKey;
  return (await createApiKey(store, { name: 'first', actor, nowMs })).key;
}

/** The same for one of many processes: a key is made where the deployment has none. Null: those that there are still open. */
export async function fleetKey(store: Store, apiKey: string | undefined): Promise<string | null> {
  if (apiKey !== undefined) return firstKey(store, { apiKey });
  const keys = await store.listResources({ ...defaultTenant, kind: 'api_key', limit: 1 });
  return keys.length > 0 ? null : firstKey(store, {});
}
