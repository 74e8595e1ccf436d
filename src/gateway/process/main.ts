/**
 * The gateway's process: `node main.ts --state-dir DIR --capture-dir DIR --launch FILE --netprep FILE --undumpable FILE
 * [--uid N] [--pin NAME=ADDRESS[:PORT]]… [--private-network CIDR]… [--authorities FILE] [--owner-grace-ms N]`.
 * Started detached by adopt.ts; survives whoever started it.
 *
 * - Three processes, three trusts: this one holds sessions' secrets and runs nothing of a session. As root it becomes a user
 *   of its own before it hears of any secret; without root nobody of its own user can read its memory (S1).
 * - Exit codes: 0 its owners are gone or it was asked to end; 64 wrong arguments; 75 another gateway serves the folder.
 */
import { chmodSync, chownSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { takeLock } from '../../link/lock.ts';
import { Capture } from '../capture.ts';
import { type Doors, type LocalGateway, openLocalGateway } from '../local-gateway.ts';
import { openFront } from '../terminate.ts';
import { openUpstream } from '../upstream.ts';
import { Owners } from './owners.ts';

const exitUsage = 64;
const exitTaken = 75;
const sweepMs = 60_000;
const defaultGraceMs = '120000';
/** A capture folder that nobody but us may change, and every session's user may look a socket up in. */
const passable = 0o711;

function fail(message: string, code: number): never {
  process.stderr.write(`gateway: ${message}\n`);
  process.exit(code);
}

function argumentsOf(argv: string[]) {
  const one = { type: 'string' } as const;
  const many = { type: 'string', multiple: true, default: [] as string[] } as const;
  const options = {
    ...{ 'state-dir': one, 'capture-dir': one, launch: one, netprep: one, undumpable: one, uid: one },
    ...{ pin: many, 'private-network': many, authorities: one },
    'owner-grace-ms': { type: 'string', default: defaultGraceMs } as const,
  };
  const { values } = parseArgs({ args: argv, options, strict: true });
  const { 'state-dir': stateDir, 'capture-dir': captureDir, launch, netprep, undumpable } = values;
  if (!stateDir || !captureDir || !launch || !netprep || !undumpable)
    fail('an argument is missing', exitUsage);
  const uid = values.uid === undefined ? null : Number(values.uid);
  return { ...values, stateDir, captureDir, launch, netprep, undumpable, uid };
}

/** Nothing of ours can be traced or read by another process of the same user from here on. */
function hideMemory(addOn: string): void {
  process.dlopen({ exports: {} }, addOn);
}

/** Everything that needs root is open by now. */
function become(uid: number): void {
  process.setgroups?.([]);
  process.setgid?.(uid);
  process.setuid?.(uid);
  if (process.getuid?.() !== uid) fail(`could not become user ${uid}`, 1);
}

function makeCaptureFolder(folder: string, uid: number | null): void {
  mkdirSync(path.dirname(folder), { recursive: true, mode: passable });
  // The same folder as before: holders of sandboxes that live on keep a descriptor of it.
  mkdirSync(folder, { recursive: true, mode: passable });
  chmodSync(folder, passable);
  if (uid !== null) chownSync(folder, uid, uid);
}

/** Sandboxes' sockets, once each has shown its ticket, led to the doors of their session. */
function startCapture(gateway: LocalGateway, place: { netprep: string; folder: string }): Promise<Capture> {
  const doors = new Map<string, Doors>();
  return Capture.start({
    ...place,
    accept(ticket) {
      const admitted = gateway.admit(ticket);
      if (admitted) doors.set(admitted.session, admitted);
      return admitted?.session ?? null;
    },
    onCaptured({ session, tcp, udp }) {
      const door = doors.get(session);
      tcp.on('connection', (accepted) => {
        const { localAddress = '', localPort = 0 } = accepted;
        if (door) door.connection(accepted, { address: localAddress, port: localPort });
        else accepted.destroy();
      });
      udp.on('message', (packet, from) => {
        const answer = door?.dns(packet);
        if (answer) udp.send(answer, from.port, from.address, () => {});
      });
    },
    onReleased: ({ session }) => doors.delete(session),
  });
}

async function main(): Promise<void> {
  const options = argumentsOf(process.argv.slice(2));
  const { stateDir, captureDir, uid } = options;
  const lock = await takeLock(options.launch, path.join(stateDir, 'gateway.lock'), []);
  if (!lock.isHeld) fail(lock.reason, exitTaken);
  makeCaptureFolder(captureDir, uid);
  // Through a descriptor: the package may lie where only root can look.
  const netprep = `/proc/self/fd/${openSync(options.netprep, 'r')}`;
  const authorities =
    options.authorities === undefined ? [] : [`${readFileSync(options.authorities, 'utf8').trimEnd()}\n`];
  const socket = path.join(stateDir, 'gateway.sock');
  rmSync(socket, { force: true });
  // Who dials while we start is served as soon as there is somebody to serve it.
  const ready = Promise.withResolvers<Owners>();
  const server = createServer((connection) => void ready.promise.then((owners) => owners.serve(connection)));
  const mask = process.umask(0o177);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socket, resolve);
  });
  process.umask(mask);
  const addOn = `/proc/self/fd/${openSync(options.undumpable, 'r')}`;
  if (uid !== null) become(uid);
  hideMemory(addOn);

  const upstream = openUpstream({
    pins: options.pin,
    privateRanges: options['private-network'],
    extraAuthorities: authorities,
  });
  const gateway = openLocalGateway({
    upstream,
    front: openFront(upstream),
    operatorAuthorities: authorities.join(''),
  });
  setInterval(() => gateway.sweep(), sweepMs).unref();
  const capture = await startCapture(gateway, { netprep, folder: captureDir });
  // The socket's name stays: its folder may be root's, and whoever holds the lock next takes it away.
  const end = (): void => {
    server.close();
    gateway.close();
    lock.release();
    void Promise.all([capture.close(), lock.lost]).then(() => process.exit(0));
  };
  const owners = new Owners(gateway, { graceMs: Number(options['owner-grace-ms']), onAbandoned: end });
  ready.resolve(owners);
  void lock.lost.then(end);
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  process.on('SIGHUP', () => {});
}

await main().catch((error: Error) => fail(error.message, 1));
