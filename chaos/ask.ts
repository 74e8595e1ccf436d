/** One request over the lying wire: an answer, or nothing that could be understood. Never throws for the network. */
import type { JsonObject } from '../src/protocol/json.ts';

export type Asked = { status: number; body: JsonObject } | 'lost';

export type Ask = (
  method: string,
  path: string,
  options?: { json?: JsonObject; key?: string },
) => Promise<Asked>;

/** A wire that swallowed the answer would be waited for for ever. */
const patienceMs = 6_000;

export function asker(baseUrl: string, apiKey: string): Ask {
  return async (method, path, options = {}) => {
    const headers: Record<string, string> = { authorization: `Bearer ${apiKey}` };
    if (options.json !== undefined) headers['content-type'] = 'application/json';
    if (options.key !== undefined) headers['idempotency-key'] = options.key;
    try {
      const response = await fetch(new URL(path, baseUrl), {
        method,
        headers,
        signal: AbortSignal.timeout(patienceMs),
        ...(options.json === undefined ? {} : { body: JSON.stringify(options.json) }),
      });
      return { status: response.status, body: (await response.json()) as JsonObject };
    } catch {
      return 'lost';
    }
  };
}

/** Whether asking again may help: no answer, the server's fault, or a race that was lost. */
export function isPassing(asked: Asked): boolean {
  return asked === 'lost' || asked.status >= 500 || asked.status === 409 || asked.status === 429;
}

/** Asks until there is an answer that will not change. */
export async function insist(
  ask: () => Promise<Asked>,
  signal: AbortSignal,
  pause: () => Promise<void>,
): Promise<Exclude<Asked, 'lost'> | null> {
  while (!signal.aborted) {
    const asked = await ask();
    if (asked !== 'lost' && !isPassing(asked)) return asked;
    await pause();
  }
  return null;
}
