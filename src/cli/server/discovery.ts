/**
 * `server.json` in a data directory: where its server listens and, for whoever may read the file (0600), a key to it.
 *
 * It is a hint and never a lock: a killed server leaves it behind, so whoever reads it asks `/healthz` first.
 */
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';

export type Discovery = { url: string; pid: number; apiKey: string | null };

const FILE = 'server.json';

export async function readDiscovery(dataDir: string): Promise<Discovery | null> {
  try {
    const body: unknown = JSON.parse(await readFile(path.join(dataDir, FILE), 'utf8'));
    if (body === null || typeof body !== 'object') return null;
    const { url, pid, api_key: apiKey } = body as Record<string, unknown>;
    if (typeof url !== 'string' || typeof pid !== 'number') return null;
    return { url, pid, apiKey: typeof apiKey === 'string' ? apiKey : null };
  } catch {
    return null;
  }
}

/** Appears whole or not at all, and is never readable by others, not even for a moment. */
export async function writeDiscovery(dataDir: string, discovery: Discovery): Promise<void> {
  const { url, pid, apiKey } = discovery;
  const temporary = path.join(dataDir, `${FILE}.${process.pid}`);
  const body = { url, pid, ...(apiKey === null ? {} : { api_key: apiKey }) };
  await writeFile(temporary, `${JSON.stringify(body)}\n`, { mode: 0o600 });
  await rename(temporary, path.join(dataDir, FILE));
}

/**
 * Takes the address away at an orderly end; the key stays for the next start. Nothing happens where another server
 * has written the file since.
 */
export async function retractDiscovery(dataDir: string, pid: number): Promise<void> {
  const found = await readDiscovery(dataDir);
  if (found?.pid !== pid) return;
  if (found.apiKey === null) await rm(path.join(dataDir, FILE), { force: true });
  else await writeDiscovery(dataDir, { ...found, url: '', pid: 0 });
}

const PROBE_TIMEOUT_MS = 1_500;

export async function answers(url: string): Promise<boolean> {
  if (url === '') return false;
  try {
    const response = await fetch(new URL('healthz', url.endsWith('/') ? url : `${url}/`), {
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}
