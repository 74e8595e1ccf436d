/**
 * The host: every session of one state folder, and the machine they run on.
 *
 * Promises
 * - S4: isolation `none` only with the operator's flag and when the spec asks for it; nothing falls back to it.
 * - S5: a stopped host leaves no process, mount or cgroup; what a killed one left is cleaned up by the next.
 * - One uid per session where the host is root, never used twice.
 */

import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { makeDurableDirectory, fsyncDirectory as syncFolder } from '../../store/durable-files.ts';
import type { OperatorBind, Programs, RunningSandbox } from '../backend.ts';
import type { Refusal, SandboxSpec } from '../executor.ts';
import { removeLeftBundles, startGvisor } from '../gvisor/start.ts';
import { LayerStore } from '../image/layer-store.ts';
import { layerDrift, layerMount } from '../image/mount.ts';
import { guardSpace } from '../image/space.ts';
import type { BwrapOptions } from '../local/bubblewrap.ts';
import { CapturePool } from '../local/capture-pool.ts';
import type { CgroupPlaces } from '../local/cgroup.ts';
import { writeEtc } from '../local/etc.ts';
import { bwrapOptions, startLocal } from '../local/start.ts';
import { DiskRefused } from '../snapshot/disk.ts';
import { type DiskChoice, Disks } from '../snapshot/disks.ts';
import { startUnisolated } from '../unisolated/start.ts';
import { type ReadyDisk, readyDisk } from './checkpoints.ts';
import { Session } from './session.ts';

export type HostOptions = {
  stateDir: string;
  programs: Programs;
  cgroups: CgroupPlaces;
  allowUnisolated: boolean;
  binds: OperatorBind[];
  /** A sandbox that nobody uses is stopped after this long; its disk stays. */
  idleMs: number;
  /** The same while it holds processes that a call left in the background. */
  idleWithProcessesMs: number;
  /** The gateway's folder, where sandboxes' sockets are presented; null: sandboxes can have no network. */
  gatewayDir: string | null;
  /** How sessions' disks are kept; absent: as well as the machine can. */
  diskDriver?: DiskChoice;
  /** First part of the host's id; a fleet's hosts are named by their tokens. */
  name?: string;
};

const FIRST_UID = 200_000;
const isRoot = process.getuid?.() === 0;

/** The same for every host of a folder, and for no other. */
export function groupPrefix(stateDir: string): string {
  const digest = createHash('sha256').update(realpathSync(stateDir)).digest('hex');
  return `scriptorium-${digest.slice(0, 10)}-`;
}

/** Another name for the same folder is another host: engines compare the name with who proved to be calling. */
function hostId(stateDir: string, name: string): string {
  const file = path.join(stateDir, 'host-id');
  const known = existsSync(file) ? readFileSync(file, 'utf8') : '';
  if (known.startsWith(`${name}~`)) return known;
  const id = `${name}~${randomBytes(5).toString('hex')}`;
  writeFileSync(`${file}.new`, id, { mode: 0o600, flush: true });
  renameSync(`${file}.new`, file);
  syncFolder(stateDir);
  return id;
}

export class Host {
  /** `name~random`, made with the state folder. */
  readonly id: string;
  readonly layers: LayerStore;
  readonly disks: Disks;
  readonly #options: HostOptions;
  readonly #cgroups: CgroupPlaces;
  readonly #prefix: string;
  readonly #sessions = new Map<string, Session>();
  readonly #idleTimer: NodeJS.Timeout;
  readonly #bwrapOptions: BwrapOptions;
  readonly #capture: CapturePool | null;
  #started = 0;
  #leftovers: Promise<void> = Promise.resolve();

  private constructor(options: HostOptions, cgroups: CgroupPlaces, prefix: string) {
    this.#options = options;
    this.id = hostId(options.stateDir, options.name ?? 'local');
    this.disks = new Disks(options.programs, options.stateDir, options.diskDriver ?? 'auto');
    const { bwrap } = options.programs;
    this.#bwrapOptions = bwrap === null ? { disableUserns: false } : bwrapOptions(bwrap);
    this.#cgroups = cgroups;
    const { gatewayDir, programs } = options;
    this.#capture = gatewayDir === null ? null : new CapturePool(programs, gatewayDir);
    this.#capture?.fill();
    this.#prefix = prefix;
    this.layers = new LayerStore(options.stateDir, (folder) => this.#trash(folder, path.basename(folder)));
    const every = Math.max(50, Math.min(1000, options.idleMs / 2));
    this.#idleTimer = setInterval(() => this.#stopIdle(), every).unref();
  }

  /** Call only with the lock of the state folder held. */
  static open(options: HostOptions): Host {
    for (const name of ['sessions', 'trash']) makeDurableDirectory(path.join(options.stateDir, name), 0o700);
    writeEtc(path.join(options.stateDir, 'etc'));
    const host = new Host(options, options.cgroups, groupPrefix(options.stateDir));
    host.#leftovers = removeLeftBundles(options.programs.launch, path.join(options.stateDir, 'gvisor'));
    for (const name of readdirSync(path.join(options.stateDir, 'trash'))) void host.#removeTree(name);
    return host;
  }

  /** The session, where this host has it. */
  find(id: string): Session | undefined {
    const known = this.#sessions.get(id);
    if (known !== undefined) return known;
    const folder = this.#folder(id);
    if (!existsSync(path.join(folder, 'journal'))) return undefined;
    return this.#open(id, folder);
  }

  async findOrMake(id: string): Promise<Session> {
    const found = this.find(id);
    // A crash between folder and first record leaves a session without its uid: it gets one now.
    if (found !== undefined && (found.uid !== null || !isRoot)) return found;
    const uid = isRoot ? this.#nextUid() : null;
    const folder = this.#folder(id);
    Session.makeFolder(folder);
    const session = found ?? this.#open(id, folder);
    session.uid = uid;
    await session.journal.append({ type: 'session', session: id, uid, format: 1 });
    // The journal's own name must survive a power cut as its content does.
    for (const place of [folder, path.dirname(folder)]) syncFolder(place);
    return session;
  }

  #folder(id: string): string {
    return path.join(this.#options.stateDir, 'sessions', id);
  }

  #open(id: string, folder: string): Session {
    const session = new Session(id, folder, (which, spec) => this.#startSandbox(which, spec));
    this.#sessions.set(id, session);
    session.open();
    return session;
  }

  /** Durable before it is used: two sessions with one uid could reach into each other's folders. */
  #nextUid(): number {
    const file = path.join(this.#options.stateDir, 'next-uid');
    const next = existsSync(file) ? Number(readFileSync(file, 'utf8')) : FIRST_UID;
    if (!Number.isSafeInteger(next) || next < FIRST_UID) throw new Error(`${file} does not hold a uid`);
    writeFileSync(`${file}.new`, String(next + 1), { mode: 0o600 });
    const fd = openSync(`${file}.new`, 'r');
    fsyncSync(fd);
    closeSync(fd);
    renameSync(`${file}.new`, file);
    syncFolder(this.#options.stateDir);
    return next;
  }

  async #startSandbox(session: Session, spec: SandboxSpec): Promise<RunningSandbox | Refusal> {
    let disk: ReadyDisk;
    try {
      disk = await readyDisk(this.disks, session, spec);
    } catch (error) {
      if (error instanceof DiskRefused) return error.refusal;
      throw error;
    }
    const started = await this.#startOn(disk, session, spec);
    if ('refused' in started) return started;
    const warnings = [...started.info.warnings, ...disk.warnings];
    const { limitBytes: value } = disk.info;
    const bound = {
      limit: 'disk_bytes' as const,
      value,
      by: value === null ? ('none' as const) : ('disk' as const),
    };
    const limits = [...(started.info.limits ?? []), bound];
    return { ...started, info: { ...started.info, limits, disk: disk.info, warnings } };
  }

  async #startOn(disk: ReadyDisk, session: Session, spec: SandboxSpec): Promise<RunningSandbox | Refusal> {
    const { programs, allowUnisolated, binds, stateDir } = this.#options;
    const missing = [programs.guest, programs.launch].find((file) => !existsSync(file));
    if (missing !== undefined)
      return {
        refused: 'isolation_unavailable',
        message: `${path.basename(missing)} is not built: install a C compiler and run npm run build`,
      };
    if (isRoot && session.uid === null) throw new Error(`session ${session.id} has no uid of its own`);
    const name = `${this.#prefix}${process.pid}-${++this.#started}`;
    const network = spec.network?.kind === 'gateway' ? spec.network : null;
    const layer = layerMount(this.layers, session, spec);
    if (layer !== null && 'refused' in layer) return layer;
    const request = {
      ...(layer === null ? {} : { layer }),
      ...{ name, folders: session.foldersAt(disk.root), disk, limits: spec.limits, uid: session.uid, binds },
      network: network && { ...network, trustFolder: path.join(session.folder, 'trust') },
    };
    if (spec.isolation === 'none') {
      if (network !== null)
        return {
          refused: 'isolation_unavailable',
          message: 'isolation "none" has no network of its own: the gateway cannot be the only way out of it',
        };
      if (allowUnisolated) return startUnisolated(programs, this.#cgroups, request);
      return {
        refused: 'isolation_unavailable',
        message: 'isolation "none" was asked, and this host was not started with --allow-unisolated',
      };
    }
    const etcFolder = path.join(stateDir, 'etc');
    const machine = { programs, cgroups: this.#cgroups, etcFolder, capture: this.#capture };
    const started = await (spec.isolation === 'gvisor'
      ? startGvisor({ ...machine, folder: path.join(stateDir, 'gvisor') }, request)
      : startLocal({ ...machine, bwrapOptions: this.#bwrapOptions }, request));
    if (spec.layer === 'build' && !('refused' in started))
      guardSpace(session.folder, spec.limits.diskBytes, started.link);
    return 'refused' in started
      ? started
      : { ...started, info: { ...started.info, ...layerDrift(this.layers, spec) } };
  }

  async removeDisk(session: Session): Promise<void> {
    await this.disks.removeSession({ session: session.id, folder: session.folder }, session.ledger);
    await session.close();
    this.#sessions.delete(session.id);
    await this.#trash(session.folder, session.id);
    this.layers.letGo(session.id);
  }

  /** Of builds whose engine died and that nobody has begun again. */
  async removeLeftBuilds(olderThanMs: number): Promise<void> {
    const sessions = path.join(this.#options.stateDir, 'sessions');
    for (const id of readdirSync(sessions)) {
      const session = id.startsWith('build_') ? this.find(id) : undefined;
      if (session === undefined || session.requests > 0 || session.runningCalls() > 0) continue;
      if (Date.now() - statSync(path.join(sessions, id)).mtimeMs < olderThanMs) continue;
      await session.stop('destroyed');
      await this.removeDisk(session);
    }
  }

  async #trash(folder: string, about: string): Promise<void> {
    const name = `${about}.${process.pid}.${++this.#started}`;
    renameSync(folder, path.join(this.#options.stateDir, 'trash', name));
    await this.#removeTree(name);
  }

  /** Not in Node: a tree made to be hard to remove must not be walked by path (S3); see native/launch-remove.h. */
  #removeTree(name: string): Promise<void> {
    const folder = path.join(this.#options.stateDir, 'trash', name);
    const child = spawn(this.#options.programs.launch, ['--remove', folder], { stdio: 'ignore', env: {} });
    return new Promise((resolve) => {
      child.once('error', () => resolve());
      child.once('exit', (code) => {
        if (code !== 0) process.stderr.write(`trash/${name} was not removed wholly\n`);
        resolve();
      });
    });
  }

  #stopIdle(): void {
    const now = performance.now();
    for (const session of this.#sessions.values()) {
      const { sandbox } = session;
      if (sandbox === null) {
        this.#forgetUnused(session, now);
        continue;
      }
      if (session.requests > 0 || session.runningCalls() > 0) {
        session.lastUsedMs = now;
        continue;
      }
      const { idleMs, idleWithProcessesMs } = this.#options;
      const ownMs = sandbox.link.liveCalls > 0 ? idleWithProcessesMs : idleMs;
      const limitMs = session.spec?.limits.idleTimeMs ?? ownMs;
      if (now - session.lastUsedMs >= limitMs) void session.stop('idle', limitMs);
    }
  }

  /** What is on disk need not be in memory; the session is read again when somebody asks for it. */
  #forgetUnused(session: Session, now: number): void {
    const isUnused = session.requests === 0 && now - session.lastUsedMs > this.#options.idleWithProcessesMs;
    if (!isUnused || session.isStarting) return;
    this.#sessions.delete(session.id);
    void session.close();
  }

  sandboxes(): number {
    let running = 0;
    for (const session of this.#sessions.values()) if (session.sandbox !== null) running++;
    return running;
  }

  runningCalls(): number {
    let running = 0;
    for (const session of this.#sessions.values())
      running += Math.max(session.runningCalls(), session.sandbox?.link.liveCalls ?? 0);
    return running;
  }

  /** Ends every sandbox and closes every journal. */
  async close(): Promise<void> {
    clearInterval(this.#idleTimer);
    await Promise.all(
      [...this.#sessions.values()].map(async (session) => {
        await session.stop('destroyed');
        await session.close();
      }),
    );
    await Promise.all([this.#capture?.close(), this.#leftovers]);
    this.disks.close();
  }
}
