/**
 * A host at work: the lock of its state folder, its sessions, its socket, and the fleet it has joined, if any; ended in
 * order. What starts it (`main.ts` beside this file, or `scriptorium host`) decides how.
 */
import { chmodSync, rmSync } from 'node:fs';
import path from 'node:path';
import { Joining } from '../../link/join.ts';
import { takeLock } from '../../link/lock.ts';
import { BadSecret, hostNameOf, readToken, type Token } from '../../link/secret.ts';
import { makeDurableDirectory } from '../../store/durable-files.ts';
import type { OperatorBind } from '../backend.ts';
import { parseBind } from '../local/bubblewrap.ts';
import { findCgroups, groupParents } from '../local/cgroup.ts';
import type { DiskChoice } from '../snapshot/disks.ts';
import { groupPrefix, Host } from './host.ts';
import { findPrograms } from './programs.ts';
import { HostServer } from './server.ts';

export type RunOptions = {
  stateDir: string;
  allowUnisolated: boolean;
  binds: OperatorBind[];
  ownerGraceMs: number;
  idleMs: number;
  idleWithProcessesMs: number;
  gatewayDir: string | null;
  diskDriver?: DiskChoice;
  fleet?: { url: string; token: Token; onChange(message: string): void };
};

export type RunningHost = { id: string; end(): void; ended: Promise<void> };

export type JoinedHostOptions = {
  stateDir: string;
  /** http(s)://… of any api. */
  url: string;
  tokenFile: string;
  allowUnisolated: boolean;
  /** FROM:TO or FROM:TO:ro */
  binds: string[];
  /** As in `ConnectOptions`. */
  gatewayDir?: string;
  diskDriver?: DiskChoice;
  onChange(message: string): void;
};

export const defaultIdle = { ownerGraceMs: 120_000, idleMs: 60_000, idleWithProcessesMs: 15 * 60_000 };

/** A host of a fleet. Rejects with `BadSecret` or `BadBind` on what its operator gave. */
export async function runJoinedHost(options: JoinedHostOptions): Promise<RunningHost | { taken: string }> {
  const { url, tokenFile, onChange, binds, stateDir, allowUnisolated, gatewayDir = null } = options;
  const token = readToken(tokenFile);
  if (hostNameOf(token.identity) === null) throw new BadSecret(`${tokenFile} is no host's token`);
  const fleet = { url, token, onChange };
  const { diskDriver = 'auto' } = options;
  const run = { stateDir: path.resolve(stateDir), allowUnisolated, gatewayDir, diskDriver, ...defaultIdle };
  return runHost({ ...run, binds: binds.map(parseBind), fleet });
}

/** A reason why this folder has no host of ours. */
export async function runHost(options: RunOptions): Promise<RunningHost | { taken: string }> {
  const { stateDir, fleet } = options;
  makeDurableDirectory(stateDir, 0o700);
  chmodSync(stateDir, 0o700);
  const programs = findPrograms();
  const cgroups = findCgroups(true);
  const prefix = groupPrefix(stateDir);
  const groups = groupParents(cgroups).flatMap((folder) => [folder, prefix]);
  const lock = await takeLock(programs.launch, path.join(stateDir, 'host.lock'), groups);
  if (!lock.isHeld) return { taken: lock.reason };
  const { allowUnisolated, binds, idleMs, idleWithProcessesMs, gatewayDir } = options;
  const name = fleet && (hostNameOf(fleet.token.identity) ?? undefined);
  const { diskDriver = 'auto' } = options;
  const named = { diskDriver, ...(name === undefined ? {} : { name }) };
  const host = Host.open({
    ...{ stateDir, programs, cgroups, allowUnisolated, binds, idleMs, idleWithProcessesMs, gatewayDir },
    ...named,
  });
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  let isEnding = false;
  const end = (): void => {
    if (isEnding) return;
    isEnding = true;
    void shutDown().then(resolve);
  };
  // Engines come and go while a joined host stays: only its operator ends it.
  const ownerGraceMs = fleet ? Number.POSITIVE_INFINITY : options.ownerGraceMs;
  const server = await HostServer.listen({ stateDir, host, ownerGraceMs, onAbandoned: end });
  const joining = fleet ? new Joining({ ...fleet, serve: (socket) => server.serve(socket) }) : null;
  joining?.start();
  // The lock's holder is a child that keeps nobody alive: without this the process could end before its last step.
  const presence = setInterval(() => {}, 60_000);
  const shutDown = async (): Promise<void> => {
    joining?.stop();
    rmSync(path.join(stateDir, 'host.sock'), { force: true });
    await host.close();
    await server.close();
    lock.release();
    await lock.lost;
    clearInterval(presence);
  };
  // Without the lock another host may start: two would fight over the same sandboxes.
  void lock.lost.then(end);
  return { id: host.id, end, ended };
}
