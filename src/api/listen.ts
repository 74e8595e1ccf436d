/**
 * The API on a port. Closing takes no new request, ends streams in order (clients come back with Last-Event-ID, to
 * whoever serves then) and waits for a slow reader only so long.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { getRequestListener } from '@hono/node-server';

export type Listening = {
  url: string;
  /** Takes no new connection from now on; what is under way goes on. */
  refuse(): void;
  /** `closing` ends the streams. Settles when no connection is left. */
  close(closing: AbortController): Promise<void>;
};

/** How long open streams may take to end in order. */
const streamEndMs = 1_000;

type Fetch = (request: Request) => Response | Promise<Response>;

/** Rejects where the port cannot be had. */
export async function listenHttp(fetch: Fetch, port: number, host: string): Promise<Listening> {
  const http = createServer(getRequestListener(fetch));
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject);
    http.listen(port, host, () => {
      http.off('error', reject);
      resolve();
    });
  });
  const at = http.address() as AddressInfo;
  let closed: Promise<unknown> | null = null;
  const refuse = (): void => {
    closed ??= new Promise((resolve) => http.close(resolve));
  };
  return {
    url: `http://${at.family === 'IPv6' ? `[${at.address}]` : at.address}:${at.port}`,
    refuse,
    async close(closing) {
      refuse();
      await endConnections(http, closing, closed as unknown as Promise<unknown>);
    },
  };
}

async function endConnections(
  http: Server,
  closing: AbortController,
  closed: Promise<unknown>,
): Promise<void> {
  closing.abort();
  // Node closes those that are idle when the server closes, and forgets those that become idle afterwards.
  const sweep = setInterval(() => http.closeIdleConnections(), 10);
  await Promise.race([closed, sleep(streamEndMs, undefined, { ref: false })]);
  clearInterval(sweep);
  http.closeAllConnections();
  await closed;
}
