/** One process of many on a shared store: api, engine or both. The same parts as on one machine. */
import path from 'node:path';
import { EngineLinks } from '../api/engine-links.ts';
import { fleetDesk } from '../api/fleet-desk.ts';
import { listenHttp } from '../api/listen.ts';
import { readiness } from '../api/readiness.ts';
import { answerApi } from '../engine/answer-api.ts';
import { HostLosses } from '../engine/host-losses.ts';
import { HostTokens } from '../engine/host-tokens.ts';
import { bothPreviews, LocalPreviews } from '../engine/preview-bus.ts';
import { Gateways } from '../gateway/process/gateways.ts';
import { fleetKey } from '../guard/first-key.ts';
import { apiIdentity, gatewayNameOf, hostNameOf, readClusterSecret } from '../link/secret.ts';
import { listenForLinks, showAddress } from '../link/tls.ts';
import { attachHost } from '../sandbox/fleet/attach.ts';
import { Fleet } from '../sandbox/fleet/fleet.ts';
import { makeDurableDirectory } from '../store/durable-files.ts';
import { openStore } from '../store/open.ts';
import { doctor } from './doctor.ts';
import {
  apiOf,
  type Base,
  baseOf,
  brainOf,
  type CommonOptions,
  now,
  summarizeModule,
  warmUpLater,
} from './parts.ts';
import { version } from './version.ts';

export type RoleOptions = CommonOptions & {
  port: number;
  host?: string;
  apiKey?: string;
  roles: { api: boolean; engine: boolean };
  databaseUrl: string;
  masterKeyFile: string;
  clusterSecretFile: string;
  /** Where an engine listens for hosts and apis. */
  internal: { host: string; port: number };
  /** How they reach it, where that is another address. */
  internalAddress?: string;
  hostLostAfterMs: number;
  /** How long a model that is speaking may go on after SIGTERM. */
  drainMs: number;
};

export type RunningRole = {
  url: string | null;
  internalAddress: string | null;
  apiKey: string | null;
  /** Lets everything go in order: nothing is dropped, and others go on. */
  drain(): Promise<void>;
};

/** One process of a fleet on Postgres: api, engine or both. */
export async function startRole(options: RoleOptions): Promise<RunningRole> {
  const secret = readClusterSecret(options.clusterSecretFile);
  makeDurableDirectory(options.dataDir, 0o700);
  const { databaseUrl, masterKeyFile } = options;
  const store = await openStore({ databaseUrl, masterKeyFile, summarizeModule, now });
  const undo: (() => unknown)[] = [() => store.close()];
  try {
    const base = baseOf(store, path.resolve(options.dataDir), options);
    const engine = options.roles.engine ? await engineRole(base, options, secret) : null;
    if (engine) undo.push(() => engine.close());
    const api = options.roles.api ? await apiRole(base, options, { secret, engine }) : null;
    if (api) undo.push(() => api.close());
    const drain = async (): Promise<void> => {
      api?.refuse();
      await engine?.drain();
      await api?.close();
      await engine?.close();
      await store.close();
    };
    return {
      url: api?.url ?? null,
      apiKey: api?.apiKey ?? null,
      internalAddress: engine?.address ?? null,
      drain,
    };
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

type EngineRole = Awaited<ReturnType<typeof engineRole>>;

async function engineRole(base: Base, options: RoleOptions, secret: Buffer) {
  const { store, onError } = base;
  const fleet = new Fleet();
  const gateways = new Gateways();
  const previews = new LocalPreviews();
  const losses = new HostLosses(store, options.hostLostAfterMs, now);
  const tokens = new HostTokens(store, now);
  let address = '';
  const roles = Object.entries(options.roles).flatMap(([role, is]) => (is ? [role] : []));
  const about = () => ({ roles, engine: address, pid: process.pid, version });
  const brain = brainOf(base, {
    ...{ ...options, fleet, previews, losses, about },
    gatewayAt: (host) => gateways.at(host),
    hosts: {
      choose: (session) => fleet.choose(session, (host) => gateways.isBeside(host)),
      check: (host) => fleet.check(host),
    },
  });
  const { workspaces } = brain;
  const links = await listenForLinks({
    ...{ secret, ...options.internal },
    onLink(identity, socket) {
      if (identity === apiIdentity) return answerApi(socket, { previews, workspaces, fleet });
      const isRevoked = (of: string) => tokens.isRevoked(of);
      const isLost = (id: string) => losses.isLost(id);
      const host = hostNameOf(identity);
      const gateway = gatewayNameOf(identity);
      const attaching =
        host !== null
          ? attachHost({ fleet, name: host, socket, isLost, isRevoked })
          : gateway !== null && gateways.attach({ name: gateway, socket, isRevoked });
      if (attaching === false) return void socket.destroy();
      attaching.then(
        (attached) => 'refused' in attached && onError(new Error(attached.refused), identity),
        (error: unknown) => onError(error, identity),
      );
    },
  });
  address = options.internalAddress ?? showAddress({ ...options.internal, port: links.port });
  const unwatch = tokens.watch(
    (name) => {
      fleet.cut(name);
      gateways.cut(name);
    },
    (error) => onError(error, 'host tokens'),
  );
  await brain.engine.start();
  brain.errands.start();
  warmUpLater(options.model);
  return {
    ...{ address, fleet, previews, workspaces, environments: brain.environments },
    drain: async () => {
      await Promise.all([brain.engine.drain(options.drainMs), brain.errands.stop()]);
    },
    close: async () => {
      unwatch();
      brain.networks.stop();
      await Promise.all([brain.engine.stop(), brain.errands.stop()]);
      await Promise.all([fleet.close(), gateways.close()]);
      await links.close();
    },
  };
}

async function apiRole(
  base: Base,
  options: RoleOptions,
  with_: { secret: Buffer; engine: EngineRole | null },
) {
  const { store, blobs } = base;
  const { secret, engine } = with_;
  const closing = new AbortController();
  const links = new EngineLinks({ store, blobs, secret, own: engine?.address ?? null });
  await links.refresh();
  // Every host is connected to every engine: what our own engine sees is all there is.
  const hosts = async () => (engine ? engine.fleet.hosts() : links.hosts());
  const api = apiOf(base, {
    closing,
    previews: engine ? bothPreviews(engine.previews, links) : links,
    sandbox: engine?.workspaces ?? links,
    ...(engine ? { environments: engine.environments } : {}),
    isolation: 'bubblewrap',
    ready: async () => ({
      ...(await readiness({ store: store.nextWakeAt() })),
      roles: options.roles,
      hosts_connected: (await hosts()).filter(({ isConnected }) => isConnected).length,
    }),
    doctor: () => doctor({ dataDir: options.dataDir, model: options.model }),
    fleet: fleetDesk(store, hosts, secret),
  });
  const apiKey = await fleetKey(store, options.apiKey);
  const http = await listenHttp(api.fetch, options.port, options.host ?? '127.0.0.1');
  return {
    ...{ url: http.url, apiKey, refuse: http.refuse },
    close: async () => {
      await http.close(closing);
      links.close();
    },
  };
}
