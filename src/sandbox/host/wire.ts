/**
 * The line protocol between an engine and its host: JSON-RPC 2.0, one message a line, bytes as base64.
 * Both sides share the limits and the line reader here.
 */
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

export function encodeBytes(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');
}
