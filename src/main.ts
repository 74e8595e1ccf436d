/**
 * The composition root: what a command can start. `startServer` is everything on one machine, `startRole` one process of a
 * fleet, `startHostRole` a machine that lends a fleet its sandboxes, `startGatewayRole` their way out. Each loads what it needs and nothing else: a host has no use
 * for a store.
 */
import path from 'node:path';
import type { JoinedGatewayOptions } from './gateway/process/run.ts';
import { mintGatewayToken, mintHostToken, readClusterSecret } from './link/secret.ts';
import type { ModelConfig } from './model/catalogue.ts';
import { defaultTenant } from './protocol/tenant.ts';
import type { RunningServer, ServerOptions } from './roles/embedded.ts';
import type { RoleOptions, RunningRole } from './roles/fleet.ts';
import type { JoinedHostOptions } from './sandbox/host/run.ts';

export { version } from './roles/version.ts';
export type { RoleOptions, RunningRole, RunningServer, ServerOptions };

/** Rejects with `StoreLocked` where another server has the data directory, and where the port or a file cannot be had. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { startServer: start } = await import('./roles/embedded.ts');
  return start(options);
}

/** One process of a fleet on Postgres: api, engine or both. */
export async function startRole(options: RoleOptions): Promise<RunningRole> {
  const { startRole: start } = await import('./roles/fleet.ts');
  return start(options);
}

/** What this machine can isolate and what is configured, with a remedy for each lack. No server need run. */
export async function doctor(about: { dataDir: string; model: ModelConfig }) {
  const { doctor: look } = await import('./roles/doctor.ts');
  return look(about);
}

/** The same of the database of a fleet. */
export async function probeDatabase(url: string) {
  const { probeDatabase: probe } = await import('./store/open.ts');
  return probe(url);
}

/** A host of a fleet in this process. It gets nothing but its token. */
export async function startHostRole(options: JoinedHostOptions) {
  const { confine } = await import('./sandbox/host/confine.ts');
  confine();
  const { runJoinedHost } = await import('./sandbox/host/run.ts');
  return runJoinedHost(options);
}

/** A gateway of a fleet in this process, which as root becomes another user. It gets nothing but its token. */
export async function startGatewayRole(options: Omit<JoinedGatewayOptions, 'programs'>) {
  const { runJoinedGateway } = await import('./gateway/process/run.ts');
  const { findPrograms } = await import('./sandbox/host/programs.ts');
  return runJoinedGateway({ ...options, programs: findPrograms() });
}

/** For one host, or for all hosts that trust each other. */
export function hostToken(clusterSecretFile: string, name: string | undefined): string {
  return mintHostToken(readClusterSecret(clusterSecretFile), name);
}

/** For the gateway beside the host of that name. */
export function gatewayToken(clusterSecretFile: string, name: string): string {
  return mintGatewayToken(readClusterSecret(clusterSecretFile), name);
}

/** The checks of a store that no server has open. Rejects with `StoreLocked` where one has. */
export async function openChecks(dataDir: string) {
  const { openStoreOf } = await import('./roles/parts.ts');
  const { storeChecks } = await import('./engine/checks.ts');
  const store = await openStoreOf(path.resolve(dataDir));
  const { fsck, replay } = storeChecks(store);
  const newest = { ...defaultTenant, kind: 'session', includeArchived: true, order: 'desc' } as const;
  return {
    fsck: (after: Parameters<typeof fsck>[1]) => fsck(defaultTenant, after),
    replay,
    newestSessions: async () =>
      (await store.listStreams({ ...newest, limit: 100 })).map(({ stream }) => stream),
    close: () => store.close(),
  };
}
