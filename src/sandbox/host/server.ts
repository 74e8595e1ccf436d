/**
 * The host's socket: JSON-RPC in, methods called, answers out in whatever order they are ready.
 *
 * Promises
 * - A malformed, unknown or oversized message is an error to its sender and touches nobody else.
 * - The host outlives its owners by the grace time only (S5): `onAbandoned` comes once there was none for that long.
 */
import { chmodSync, closeSync, openSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { encodeLine, readLines } from '../../link/lines.ts';
import { failpoint, failpoints } from '../../protocol/failpoint.ts';
import type { Host } from './host.ts';
import { type Method, methods } from './methods.ts';
import { ParamError, Params } from './params.ts';
import { HOST_PROTOCOL, type HostHello, MAX_LINE_BYTES, rpcErrors } from './wire.ts';

export type ServerOptions = {
  stateDir: string;
  host: Host;
  ownerGraceMs: number;
  /** The owners are gone, or one of them asked for the end. */
  onAbandoned(): void;
};

/** Connections that we dialled may do all but end us: the operator of this machine does that. */
type Caller = { socket: Socket; mayEndUs: boolean };

export class HostServer {
  readonly #options: ServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #owners = new Set<Socket>();
  readonly #startedAtMs = Date.now();
  #graceTimer: NodeJS.Timeout | null = null;

  private constructor(options: ServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#accept({ socket, mayEndUs: true }));
  }

  /** Call only with the lock of the state folder held: a socket that is there then is a dead host's. */
  static async listen(options: ServerOptions): Promise<HostServer> {
    const server = new HostServer(options);
    rmSync(path.join(options.stateDir, 'host.sock'), { force: true });
    const place = socketPath(options.stateDir);
    const mask = process.umask(0o177);
    try {
      await new Promise<void>((resolve, reject) => {
        server.#server.once('error', reject);
        server.#server.listen(place.path, resolve);
      });
    } finally {
      process.umask(mask);
      place.release();
    }
    chmodSync(path.join(options.stateDir, 'host.sock'), 0o600);
    server.#watchOwners();
    return server;
  }

  /** Serves an engine on a connection that this host dialled. */
  serve(socket: Socket): void {
    this.#accept({ socket, mayEndUs: false });
  }

  async close(): Promise<void> {
    if (this.#graceTimer !== null) clearTimeout(this.#graceTimer);
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #watchOwners(): void {
    if (this.#graceTimer !== null) clearTimeout(this.#graceTimer);
    this.#graceTimer = null;
    if (this.#owners.size > 0 || this.#options.ownerGraceMs === Number.POSITIVE_INFINITY) return;
    this.#graceTimer = setTimeout(() => this.#options.onAbandoned(), this.#options.ownerGraceMs);
  }

  #accept(caller: Caller): void {
    const { socket } = caller;
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#sockets.delete(socket);
      if (this.#owners.delete(socket)) this.#watchOwners();
    });
    readLines(
      socket,
      (line) => void this.#answer(caller, line),
      () => {
        send(socket, failure(null, rpcErrors.invalidRequest, 'the message is too long'));
        socket.destroySoon();
      },
      MAX_LINE_BYTES,
    );
  }

  async #answer(caller: Caller, line: string): Promise<void> {
    const { socket } = caller;
    const request = parse(line);
    if ('problem' in request) return send(socket, failure(null, rpcErrors.parse, request.problem));
    const { id, method, params } = request;
    try {
      const act = this.#method(caller, method);
      if (act === undefined) return send(socket, failure(id, rpcErrors.noMethod, `no method ${method}`));
      const result = await act(this.#options.host, new Params(params ?? {}));
      const verdict = failpoints.on ? await failpoint('host.before-reply') : null;
      // On a stream socket no reply is lost alone: the connection goes with it.
      if (verdict === 'drop') return void socket.destroy();
      send(socket, { jsonrpc: '2.0', id, result });
      if (verdict === 'duplicate') send(socket, { jsonrpc: '2.0', id, result });
    } catch (error) {
      if (error instanceof ParamError)
        return send(socket, failure(id, rpcErrors.invalidParams, error.message));
      process.stderr.write(`${method}: ${(error as Error).stack}\n`);
      send(socket, failure(id, rpcErrors.bug, `the host failed: ${(error as Error).message}`));
    }
  }

  #method({ socket, mayEndUs }: Caller, name: string): Method | undefined {
    if (name === 'host/hello') return (_, params) => Promise.resolve(this.#hello(socket, params));
    if (name === 'host/shutdown' && mayEndUs) return () => Promise.resolve(this.#shutdown());
    return Object.hasOwn(methods, name) ? methods[name] : undefined;
  }

  #hello(socket: Socket, params: Params): HostHello {
    if (params.oneOf('role', ['owner', 'observer']) === 'owner') {
      this.#owners.add(socket);
      this.#watchOwners();
    }
    const { stateDir, host } = this.#options;
    return {
      runningCalls: host.runningCalls(),
      hostId: host.id,
      sandboxes: host.sandboxes(),
      protocol: HOST_PROTOCOL,
      pid: process.pid,
      startedAtMs: this.#startedAtMs,
      stateDir,
    };
  }

  #shutdown(): object {
    // After the answer is out.
    setImmediate(() => this.#options.onAbandoned());
    return {};
  }
}

/** Socket addresses hold about 100 bytes; a longer path is reached through a descriptor of its folder. */
export function socketPath(stateDir: string): { path: string; release(): void } {
  const plain = path.join(stateDir, 'host.sock');
  if (Buffer.byteLength(plain) < 100) return { path: plain, release: () => {} };
  const fd = openSync(stateDir, 'r');
  return { path: `/proc/self/fd/${fd}/host.sock`, release: () => closeSync(fd) };
}

type Request = { id: string | number | null; method: string; params: unknown };

function parse(line: string): Request | { problem: string } {
  let message: unknown;
  try {
    message = JSON.parse(line);
  } catch {
    return { problem: 'not JSON' };
  }
  if (typeof message !== 'object' || message === null) return { problem: 'not an object' };
  const { id, method, params } = message as Record<string, unknown>;
  if (typeof method !== 'string') return { problem: 'no method' };
  if (typeof id !== 'string' && typeof id !== 'number') return { problem: 'no id' };
  return { id, method, params };
}

function failure(id: string | number | null, code: number, message: string): object {
  return { jsonrpc: '2.0', id, error: { code, message } };
}

function send(socket: Socket, message: object): void {
  if (!socket.destroyed) socket.write(encodeLine(message));
}
