// Real namespaces, a real relay, real sockets: what holders present, and what becomes of it when a side dies.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Capture, type Captured, CaptureFailed } from './capture.ts';

const netprep = path.resolve(import.meta.dirname, '../../native/build/netprep');
const nft = ['/usr/sbin/nft', '/sbin/nft', '/usr/bin/nft'].find((file) => existsSync(file));
const run = promisify(execFile);

let folder: string;
let capture: Capture;
let holders: Holder[] = [];
let live: Map<string, Captured>;
let released: string[];
let arrived: string[];
const tickets = new Map([
  ['good', 'one'],
  ['again', 'one'],
  ['other"\\', 'two'],
]);

/** A holder as a host starts it, but with our own uid. */
class Holder {
  readonly child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor() {
    const place = openSync(folder, 'r');
    this.child = spawn(netprep, ['hold', '3', nft as string], {
      env: {},
      stdio: ['pipe', 'pipe', 'inherit', place],
    });
    closeSync(place);
    const reader: Interface = createInterface({ input: this.child.stdout as Readable });
    this.#lines = reader[Symbol.asyncIterator]();
    holders.push(this);
  }

  async says(): Promise<string> {
    return (await this.#lines.next()).value ?? 'ended';
  }

  async present(ticket: string): Promise<string> {
    (this.child.stdin as Writable).write(`present 7 ${ticket}\n`);
    return this.says();
  }

  /** Runs a script of Node inside the namespace; the answer is what it printed. */
  async inside(script: string): Promise<string> {
    const target = ['-t', String(this.child.pid), '-U', '-n', '--preserve-credentials'];
    const { stdout } = await run('nsenter', [...target, process.execPath, '-e', script]);
    return stdout.trim();
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.stdin?.end();
    await ended;
  }
}

const connectTo = (host: string, port: number): string =>
  `require('net').connect(${port}, '${host}').on('data', d => console.log(String(d))).on('error', e => console.log(e.code))`;

const query = `const u = require('dgram').createSocket('udp4');
u.on('message', (m) => { console.log(String(m)); u.close(); }); u.send('who', 53, '127.0.0.1')`;

function startCapture(): Promise<Capture> {
  return Capture.start({
    netprep,
    folder,
    accept: (ticket) => tickets.get(ticket) ?? null,
    onCaptured: (captured) => {
      live.set(captured.session, captured);
      captured.tcp.on('connection', (socket) => {
        arrived.push(`${captured.session} ${socket.localAddress}:${socket.localPort}`);
        socket.on('error', () => {});
        socket.end(`for ${socket.localAddress}`);
      });
      captured.udp.on('message', (message, from) =>
        captured.udp.send(`${captured.session} heard ${message}`, from.port, from.address),
      );
    },
    onReleased: (captured) => {
      released.push(captured.session);
      if (live.get(captured.session) === captured) live.delete(captured.session);
    },
  });
}

async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    if (holds()) return;
    await delay(20);
  }
  throw new Error(`never: ${what}`);
}

describe.skipIf(process.platform !== 'linux' || nft === undefined)('capture', () => {
  beforeEach(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-capture-'));
    live = new Map();
    released = [];
    arrived = [];
    capture = await startCapture();
  });

  afterEach(async () => {
    await Promise.all(holders.map((holder) => holder.end()));
    holders = [];
    await capture.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('brings a connection to any address with that address, and a query to the local name server', async () => {
    const holder = new Holder();
    expect(await holder.says()).toBe('ready');
    expect(await holder.present('good')).toBe('presented 7');
    expect(await holder.inside(connectTo('1.2.3.4', 5678))).toBe('for 1.2.3.4');
    expect(await holder.inside(connectTo('198.18.0.7', 443))).toBe('for 198.18.0.7');
    expect(await holder.inside(query)).toBe('one heard who');
    expect(arrived).toEqual(['one 1.2.3.4:5678', 'one 198.18.0.7:443']);
  });

  it('keeps the namespaces of two sessions apart', async () => {
    const [one, two] = [new Holder(), new Holder()];
    await Promise.all([one.says(), two.says()]);
    expect(await one.present('good')).toBe('presented 7');
    expect(await two.present('other"\\')).toBe('presented 7');
    expect(await two.inside(query)).toBe('two heard who');
    expect(await one.inside(query)).toBe('one heard who');
  });

  it('refuses a ticket that nobody knows, and takes a good one from the same holder afterwards', async () => {
    const holder = new Holder();
    await holder.says();
    expect(await holder.present('guessed')).toBe('refused 7 unknown ticket');
    expect(await holder.present('x'.repeat(257))).toMatch(/^refused 7 a ticket is/);
    expect(await holder.present('two words')).toMatch(/^refused 7 a ticket is/);
    expect(live.size).toBe(0);
    expect(await holder.present('good')).toBe('presented 7');
  });

  it('closes the sockets of a holder that was killed, so that its namespace ends', async () => {
    const holder = new Holder();
    await holder.says();
    await holder.present('good');
    const { tcp } = live.get('one') as Captured;
    holder.child.kill('SIGKILL');
    await eventually('released', () => released.includes('one'));
    expect(tcp.listening).toBe(false);
  });

  it('replaces the sockets of a session by those presented last', async () => {
    const [first, second] = [new Holder(), new Holder()];
    await Promise.all([first.says(), second.says()]);
    await first.present('good');
    const replaced = live.get('one') as Captured;
    expect(await second.present('again')).toBe('presented 7');
    expect(replaced.tcp.listening).toBe(false);
    // The session goes on: whoever keeps something for it must not let it go.
    expect(released).toEqual([]);
    expect(await second.inside(connectTo('1.2.3.4', 80))).toBe('for 1.2.3.4');
    first.child.kill('SIGKILL');
    await first.end();
    expect(live.get('one')?.tcp.listening).toBe(true);
  });

  it('is presented with the same sockets again when the relay was killed', async () => {
    const holder = new Holder();
    await holder.says();
    await holder.present('good');
    const before = live.get('one');
    process.kill(capture.relayPid as number, 'SIGKILL');
    await eventually('presented again', () => live.has('one') && live.get('one') !== before);
    expect(await holder.inside(connectTo('1.2.3.4', 80))).toBe('for 1.2.3.4');
  });

  it('lets what the sandbox sends wait while the gateway is away, for the next gateway', async () => {
    const holder = new Holder();
    await holder.says();
    await holder.present('good');
    await capture.close();
    const answer = holder.inside(connectTo('9.9.9.9', 9));
    await delay(300);
    tickets.delete('good');
    try {
      capture = await startCapture();
      expect(await holder.says()).toBe('refused 7 unknown ticket');
      expect(await holder.present('again')).toBe('presented 7');
      expect(await answer).toBe('for 9.9.9.9');
    } finally {
      tickets.set('good', 'one');
    }
  });

  it('says that nobody is there, and goes on trying', async () => {
    await capture.close();
    const holder = new Holder();
    await holder.says();
    expect(await holder.present('good')).toMatch(/^away 7 /);
    capture = await startCapture();
    expect(await holder.says()).toBe('presented 7');
    expect(live.has('one')).toBe(true);
  });

  it('says why when the relay cannot start', async () => {
    await expect(
      Capture.start({
        netprep: '/nowhere/netprep',
        folder,
        accept: () => null,
        onCaptured: () => {},
        onReleased: () => {},
      }),
    ).rejects.toThrow(CaptureFailed);
  });
});
