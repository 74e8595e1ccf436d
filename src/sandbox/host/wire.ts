/**
 * The line protocol between an engine and its host: JSON-RPC 2.0, one message a line, bytes as base64.
 * Both sides share the limits and the line reader here.
 */
import type { Duplex } from 'node:stream';

export const HOST_PROTOCOL = 1;
/** Longest line of either side: 24 MiB of file content in base64 and what is around it. */
export const MAX_LINE_BYTES = 48 << 20;

export const rpcErrors = {
  parse: -32700,
  invalidRequest: -32600,
  noMethod: -32601,
  invalidParams: -32602,
  bug: -32603,
};

export type HostHello = {
  protocol: number;
  pid: number;
  startedAtMs: number;
  stateDir: string;
  /** Stays with the state folder, and so with the disks of its sessions. */
  hostId: string;
  /** Running now: what the next session's place is chosen by. */
  sandboxes: number;
  /** Calls that run now or left processes behind: what would die with the host. */
  runningCalls: number;
};

/** Calls `onLine` for every line; `onTooLong` once when a line passes the cap (the connection is of no use then). */
export function readLines(
  socket: Duplex,
  onLine: (line: string) => void,
  onTooLong: () => void,
  maxBytes = MAX_LINE_BYTES,
): void {
  let chunks: Buffer[] = [];
  let size = 0;
  socket.on('data', (chunk: Buffer) => {
    let from = 0;
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, from)) {
      chunks.push(chunk.subarray(from, at));
      const line = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
      chunks = [];
      size = 0;
      from = at + 1;
      onLine(line.toString());
    }
    if (from < chunk.length) chunks.push(chunk.subarray(from));
    size += chunk.length - from;
    if (size > maxBytes) {
      chunks = [];
      onTooLong();
    }
  });
}

export function encodeBytes(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');
}

export function encodeLine(message: object): string {
  return `${JSON.stringify(message)}\n`;
}
