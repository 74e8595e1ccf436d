/**
 * Where sandboxes' sockets come from: every holder of a capture namespace (native/netprep.c) presents a ticket with a
 * listener for all TCP of its sandbox and a socket for its DNS queries; both are Node's own from then on.
 *
 * Promises
 * - S2: only a ticket that `accept` knows brings sockets in; the folder's socket is open to every user of the machine.
 * - S5: when a holder ends, its sockets are closed here, for a namespace lives as long as any socket of it.
 * - A relay that died is started again, and its holders present themselves again; connections do not notice.
 *
 * `localAddress` and `localPort` of an accepted connection are what the sandbox wanted to reach.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { type BindOptions, createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { chmodSync, mkdirSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import path from 'node:path';

export type Captured = {
  session: string;
  /** Connections come paused and half-open: their first bytes decide what they are. */
  tcp: Server;
  /** Queries to 127.0.0.1:53 of the sandbox; answers go to where they came from. */
  udp: DatagramSocket;
};

export type CaptureOptions = {
  /** The native program. */
  netprep: string;
  /** Of the gateway alone; made when absent, and passable for everybody. The socket in it is named capture.sock. */
  folder: string;
  /** The session that a ticket is of, or null: refused. Asked once for each presentation. */
  accept(ticket: string): string | null;
  /**
   * Attach listeners before returning; the sockets begin after that. Earlier ones of the same session are closed, without
   * a word: it goes on.
   */
  onCaptured(captured: Captured): void;
  /** The sandbox of these sockets is gone and nothing took its place; they are closed, their connections are not. */
  onReleased(captured: Captured): void;
};

type Message =
  | { ticket: string; id: number }
  | { kind: 'net' | 'dgram'; id: number }
  | { gone: number }
  | { listening: true };

type Entry = { session: string; relay: ChildProcess; handle: object | null; captured: Captured | null };

const LEAST_RESTART_MS = 50;
const MOST_RESTART_MS = 2000;
/** Holders try again at least every second; who has not by then has ended while no relay was there. */
const REPRESENT_MS = 15_000;
const MAX_ERROR_CHARS = 2000;

export class CaptureFailed extends Error {
  override name = 'CaptureFailed';
}

export class Capture {
  readonly #options: CaptureOptions;
  /** By number, which counts per relay; see `#key`. */
  readonly #entries = new Map<string, Entry>();
  #relay: ChildProcess | null = null;
  #restartMs = LEAST_RESTART_MS;
  #timers = new Set<NodeJS.Timeout>();
  #isClosed = false;

  private constructor(options: CaptureOptions) {
    this.#options = options;
  }

  /** Settles when holders can present themselves; rejects with `CaptureFailed` when the relay does not start. */
  static async start(options: CaptureOptions): Promise<Capture> {
    mkdirSync(options.folder, { recursive: true, mode: 0o711 });
    chmodSync(options.folder, 0o711);
    const capture = new Capture({ ...options, folder: path.resolve(options.folder) });
    await capture.#start();
    return capture;
  }

  get relayPid(): number | null {
    return this.#relay?.pid ?? null;
  }

  /** Closes the session's sockets; what its sandbox sends waits until it is presented again. */
  release(session: string): void {
    for (const [key, entry] of this.#entries) if (entry.session === session) this.#drop(key, entry);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const [key, entry] of this.#entries) this.#drop(key, entry);
    const relay = this.#relay;
    this.#relay = null;
    if (relay === null || relay.exitCode !== null || relay.signalCode !== null) return;
    const gone = new Promise((resolve) => relay.once('exit', resolve));
    relay.kill('SIGKILL');
    await gone;
  }

  #start(): Promise<void> {
    const { netprep, folder } = this.#options;
    const relay = spawn(netprep, ['relay', folder], {
      env: {},
      cwd: '/',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#relay = relay;
    let said = '';
    relay.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-MAX_ERROR_CHARS);
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const over = (why: string): void => {
      reject(new CaptureFailed(`the capture relay did not start: ${said.trim() || why}`));
      this.#lost(relay);
    };
    relay.once('error', (error) => over(error.message));
    relay.once('exit', (code, signal) => over(`it ended with ${signal ?? code}`));
    relay.on('message', (message, handle) => {
      const heard = message as Message;
      if ('listening' in heard) {
        this.#restartMs = LEAST_RESTART_MS;
        resolve();
      } else this.#hear(relay, heard, handle as object | undefined);
    });
    return promise;
  }

  #lost(relay: ChildProcess): void {
    if (this.#relay !== relay) return;
    this.#relay = null;
    if (this.#isClosed) return;
    this.#after(this.#restartMs, () => void this.#start().catch(() => {}));
    this.#restartMs = Math.min(MOST_RESTART_MS, 2 * this.#restartMs);
    // What it had half handed over comes again with the next relay.
    for (const [key, entry] of this.#entries)
      if (entry.relay === relay && entry.captured === null) this.#entries.delete(key);
    this.#after(REPRESENT_MS, () => {
      for (const [key, entry] of this.#entries) if (entry.relay === relay) this.#drop(key, entry);
    });
  }

  #after(delayMs: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, delayMs);
    this.#timers.add(timer.unref());
  }

  #hear(relay: ChildProcess, message: Exclude<Message, { listening: true }>, handle?: object): void {
    if ('gone' in message) {
      const key = keyOf(relay, message.gone);
      const entry = this.#entries.get(key);
      if (entry !== undefined) this.#drop(key, entry);
      return;
    }
    const key = keyOf(relay, message.id);
    if ('ticket' in message) {
      const session = this.#isClosed ? null : this.#options.accept(message.ticket);
      if (session !== null) this.#entries.set(key, { session, relay, handle: null, captured: null });
      relay.send(`${message.id} ${session === null ? 'no unknown ticket' : 'ok'}`, () => {});
      return;
    }
    const entry = this.#entries.get(key);
    if (entry === undefined || handle === undefined) closeHandle(handle);
    else if (message.kind === 'net') entry.handle = handle;
    else this.#complete(key, entry, handle);
  }

  #complete(key: string, entry: Entry, udpHandle: object): void {
    for (const [other, earlier] of this.#entries)
      if (other !== key && earlier.session === entry.session) this.#drop(other, earlier, 'replaced');
    const tcp = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    const udp = createSocket('udp4');
    // A listener's failure must not end the gateway: its session is deaf until it is presented again.
    tcp.on('error', () => {});
    udp.on('error', () => {});
    const captured = { session: entry.session, tcp, udp };
    entry.captured = captured;
    const tcpHandle = entry.handle;
    entry.handle = null;
    this.#options.onCaptured(captured);
    tcp.listen(tcpHandle);
    // Node binds to a handle, too, as its own cluster does; its types do not say so.
    udp.bind(udpHandle as BindOptions);
  }

  #drop(key: string, entry: Entry, why: 'gone' | 'replaced' = 'gone'): void {
    this.#entries.delete(key);
    closeHandle(entry.handle ?? undefined);
    const { captured } = entry;
    if (captured === null) return;
    entry.captured = null;
    captured.tcp.close();
    closeDatagrams(captured.udp);
    if (why === 'gone') this.#options.onReleased(captured);
  }
}

function keyOf(relay: ChildProcess, id: number): string {
  return `${relay.pid}.${id}`;
}

/** Unlike a server, it throws when it was closed before. */
function closeDatagrams(udp: DatagramSocket): void {
  try {
    udp.close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_SOCKET_DGRAM_NOT_RUNNING') throw error;
  }
}

function closeHandle(handle: object | undefined): void {
  if (handle !== undefined && 'close' in handle && typeof handle.close === 'function') handle.close();
}
