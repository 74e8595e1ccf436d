/**
 * A front before the rehearsal for agents that are not ours: the rehearsal is as strict as our own requests deserve, and
 * others send fields that it does not know. Takes those out, passes everything else on, and keeps its own times, so
 * that all it costs counts as the model's and not as the agent's.
 */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { nowMs } from './clock.ts';
import type { PeerRecord } from './peer.ts';

export type Front = { url: string; records: PeerRecord[]; stop(): void };

const unknownToRehearsal = ['client_metadata'];
const toolTypes = new Set(['function', 'custom']);

/** `peerUrl` ends in /v1. */
export async function startFront(peerUrl: string): Promise<Front> {
  const records: PeerRecord[] = [];
  const server = createServer((incoming, response) => {
    pass(peerUrl, incoming, response, records).catch((error: unknown) => response.destroy(error as Error));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v1`,
    records,
    stop: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function pass(
  peerUrl: string,
  incoming: IncomingMessage,
  response: ServerResponse,
  records: PeerRecord[],
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const receivedAtMs = nowMs();
  const bytes = Buffer.concat(chunks);
  const body =
    bytes.length === 0 ? bytes : Buffer.from(JSON.stringify(understood(JSON.parse(bytes.toString()))));
  const url = new URL(
    (incoming.url ?? '/').replace(/^\/v1/, peerUrl.replace(/^https?:\/\/[^/]+/, '')),
    peerUrl,
  );
  const headers = { ...incoming.headers, host: url.host, 'content-length': String(body.length) };
  delete headers['content-encoding'];
  const onward = request(url, { method: incoming.method ?? 'GET', headers }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  });
  onward.on('error', (error) => response.destroy(error));
  if (incoming.method === 'POST')
    response.once('close', () => {
      const closedAtMs = nowMs();
      const problem = response.statusCode === 200 ? null : `status ${response.statusCode}`;
      const serviceMs = closedAtMs - receivedAtMs;
      records.push({ receivedAtMs, serviceMs, answeredAtMs: closedAtMs, bodyBytes: bytes.length, problem });
    });
  onward.end(body);
}

function understood(body: unknown): unknown {
  if (typeof body !== 'object' || body === null) return body;
  const kept = Object.entries(body).filter(([name]) => !unknownToRehearsal.includes(name));
  const known = Object.fromEntries(kept) as Record<string, unknown>;
  if (Array.isArray(known.tools))
    known.tools = known.tools.filter((tool: { type?: string }) => toolTypes.has(tool.type ?? ''));
  return known;
}
