/**
 * The composition root: what a command can start. `startServer` is everything on one machine, `startRole` one process of a
 * fleet, `startHostRole` a machine that lends a fleet its sandboxes, `startGatewayRole` their way out.
 */
import path from 'node:path';
import { storeChecks } from './engine/checks.ts';
import type { JoinedGatewayOptions } from './gateway/process/run.ts';
import { mintGatewayToken, mintHostToken, readClusterSecret } from './link/secret.ts';
import { defaultTenant } from './protocol/tenant.ts';
import { openStoreOf } from './roles/parts.ts';
import type { JoinedHostOptions } from './sandbox/host/run.ts';

export { doctor } from './roles/doctor.ts';
export { type RunningServer, type ServerOptions, startServer } from './roles/embedded.ts';
export { type RoleOptions, type RunningRole, startRole } from './roles/fleet.ts';
export { version } from './roles/parts.ts';
export { probeDatabase } from './store/open.ts';

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
