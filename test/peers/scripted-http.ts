/** An HTTP peer that answers as it is told, and remembers what it was asked. For services that misbehave. */
import type { IncomingHttpHeaders, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Asked = { path: string; headers: IncomingHttpHeaders; body: string };

export type Script = (asked: Asked, response: ServerResponse) => void | Promise<void>;

export type ScriptedHttp = {
  url: string;
  asked: Asked[];
  /** What it does from now on. */
  script: Script;
  close(): Promise<void>;
};

export async function startScriptedHttp(script: Script): Promise<ScriptedHttp> {
  const peer: ScriptedHttp = { url: '', asked: [], script, close: () => closed(server) };
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString('utf8');
    const asked = { path: request.url ?? '', headers: request.headers, body };
    peer.asked.push(asked);
    await peer.script(asked, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  peer.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return peer;
}

export function answerJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

async function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}
