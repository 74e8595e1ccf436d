/**
 * A gateway at work: the lock of its state folder, its sessions, the folder where sandboxes show their tickets, and who may
 * ask it: owners on this machine, or the engines of a fleet. What starts it (`main.ts` beside this file, or `scriptorium
 * gateway`) decides which.
 *
 * - S1: it holds sessions' secrets and runs nothing of a session. As root it becomes a user of its own before it hears of
 *   any secret; without root nobody of its own user can read its memory.
 * - S5: with owners it ends once they are gone; in a fleet engines come and go, and only its operator ends it.
 */
import { chmodSync, chownSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { close as closeInspector } from 'node:inspector';
import { createServer, type Server } from 'node:net';
import path from 'node:path';
import { Joining } from '../../link/join.ts';
import { takeLock } from '../../link/lock.ts';
import { BadSecret, gatewayNameOf, readToken, type Token } from '../../link/secret.ts';
import { Capture } from '../capture.ts';
import { type Doors, type LocalGateway, openLocalGateway } from '../local-gateway.ts';
import { openFront } from '../terminate.ts';
import { openUpstream, type Upstream } from '../upstream.ts';
import { captureFolder, gatewayUid } from './adopt.ts';
import { Owners } from './owners.ts';
import { serveGateway } from './serve.ts';
import { authoritiesOf, BadNetworkSettings } from './settings.ts';

/** The native programs that it needs. */
type Programs = { launch: string; netprep: string; undumpable: string };

export type GatewayRunOptions = {
  stateDir: string;
  captureDir: string;
  programs: Programs;
  /** Whom to become; null: whoever we are. */
  uid: number | null;
  /** `name=address` or `name=address:port`: where the operator says a name is, private or not. */
  pins: readonly string[];
  /** Private networks that may be reached, by CIDR. */
  privateNetworks: readonly string[];
  /** PEM file of authorities to trust upstream, besides the system's. */
  authoritiesFile?: string;
  askedBy:
    | { kind: 'owners'; graceMs: number }
    | { kind: 'fleet'; url: string; token: Token; onChange(message: string): void };
};

export type RunningGateway = { end(): void; ended: Promise<void> };

export type JoinedGatewayOptions = Pick<
  GatewayRunOptions,
  'stateDir' | 'programs' | 'pins' | 'privateNetworks' | 'authoritiesFile'
> & {
  /** http(s)://… of any api. */
  url: string;
  tokenFile: string;
  /** Where sandboxes show their tickets; by default a folder that follows from the state folder. */
  captureDir?: string;
  onChange(message: string): void;
};

const sweepMs = 60_000;
/** A capture folder that nobody but us may change, and every session's user may look a socket up in. */
const passable = 0o711;

/** A gateway of a fleet. Rejects with `BadSecret` or `BadNetworkSettings` on what its operator gave. */
export async function runJoinedGateway(
  options: JoinedGatewayOptions,
): Promise<(RunningGateway & { name: string; captureDir: string }) | { taken: string }> {
  const { url, tokenFile, onChange, ...rest } = options;
  const token = readToken(tokenFile);
  const name = gatewayNameOf(token.identity);
  if (name === null)
    throw new BadSecret(
      `${tokenFile} is no gateway's token; mint one: scriptorium host-token --gateway --name <host's name>`,
    );
  const stateDir = path.resolve(options.stateDir);
  const captureDir = path.resolve(options.captureDir ?? captureFolder(stateDir));
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const uid = process.getuid?.() === 0 ? gatewayUid : null;
  const askedBy = { kind: 'fleet' as const, url, token, onChange };
  const running = await runGateway({ ...rest, stateDir, captureDir, uid, askedBy });
  return 'taken' in running ? running : { ...running, name, captureDir };
}

/** A reason why this folder has no gateway of ours. */
export async function runGateway(options: GatewayRunOptions): Promise<RunningGateway | { taken: string }> {
  const { stateDir, captureDir, uid, programs, askedBy } = options;
  const authorities = authoritiesOf(options.authoritiesFile);
  const upstream = upstreamOf(options, authorities);
  const lock = await takeLock(programs.launch, path.join(stateDir, 'gateway.lock'), []);
  if (!lock.isHeld) return { taken: lock.reason };
  makeCaptureFolder(captureDir, uid);
  // Through a descriptor: the package may lie where only root can look.
  const netprep = `/proc/self/fd/${openSync(programs.netprep, 'r')}`;
  const addOn = `/proc/self/fd/${openSync(programs.undumpable, 'r')}`;
  // Who dials while we start is served as soon as there is somebody to serve it.
  const ready = Promise.withResolvers<Owners>();
  const server = askedBy.kind === 'owners' ? await listenForOwners(stateDir, ready.promise) : null;
  if (uid !== null) become(uid);
  hideMemory(addOn);
  const gateway = openLocalGateway({
    upstream,
    front: openFront(upstream),
    operatorAuthorities: authorities.join(''),
  });
  setInterval(() => gateway.sweep(), sweepMs).unref();
  const capture = await startCapture(gateway, { netprep, folder: captureDir });
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  let joining: Joining | null = null;
  // The lock's holder is a child that keeps nobody alive: without this the process could end before its last step.
  const presence = setInterval(() => {}, sweepMs);
  // The socket's name stays: its folder may be root's, and whoever holds the lock next takes it away.
  const end = (): void => {
    server?.close();
    joining?.stop();
    gateway.close();
    lock.release();
    void Promise.all([capture.close(), lock.lost]).then(() => {
      clearInterval(presence);
      resolve();
    });
  };
  if (askedBy.kind === 'owners')
    ready.resolve(new Owners(gateway, { graceMs: askedBy.graceMs, onAbandoned: end }));
  else {
    const serve = (socket: Parameters<typeof serveGateway>[0]) =>
      void serveGateway(socket, { gateway, onShutdown: null });
    joining = new Joining({ ...askedBy, serve });
    joining.start();
  }
  void lock.lost.then(end);
  return { end, ended };
}

function upstreamOf(options: GatewayRunOptions, extraAuthorities: string[]): Upstream {
  try {
    return openUpstream({ pins: options.pins, privateRanges: options.privateNetworks, extraAuthorities });
  } catch (error) {
    throw new BadNetworkSettings((error as Error).message);
  }
}

/** Nothing of ours can be traced or read by another process of the same user from here on. */
function hideMemory(addOn: string): void {
  process.dlopen({ exports: {} }, addOn);
  // Node's answer to this signal is a debugger that any user of the machine can speak to.
  process.on('SIGUSR1', () => undefined);
  closeInspector();
}

/** Everything that needs root is open by now. */
function become(uid: number): void {
  process.setgroups?.([]);
  process.setgid?.(uid);
  process.setuid?.(uid);
  if (process.getuid?.() !== uid) throw new Error(`could not become user ${uid}`);
}

function makeCaptureFolder(folder: string, uid: number | null): void {
  mkdirSync(path.dirname(folder), { recursive: true, mode: passable });
  // The same folder as before: holders of sandboxes that live on keep a descriptor of it.
  mkdirSync(folder, { recursive: true, mode: passable });
  chmodSync(folder, passable);
  if (uid !== null) chownSync(folder, uid, uid);
}

async function listenForOwners(stateDir: string, ready: Promise<Owners>): Promise<Server> {
  const socket = path.join(stateDir, 'gateway.sock');
  rmSync(socket, { force: true });
  const server = createServer((connection) => void ready.then((owners) => owners.serve(connection)));
  const mask = process.umask(0o177);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socket, resolve);
  });
  process.umask(mask);
  return server;
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
