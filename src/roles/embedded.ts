/**
 * Everything on one machine: api and engine in this process, over an embedded store, with a host in a process of its own that
 * it finds running or starts.
 */
import path from 'node:path';
import { fleetDesk } from '../api/fleet-desk.ts';
import { listenHttp } from '../api/listen.ts';
import { readiness } from '../api/readiness.ts';
import { LocalPreviews } from '../engine/preview-bus.ts';
import { captureFolder, OwnGateway } from '../gateway/process/adopt.ts';
import { checkNetworkSettings } from '../gateway/process/settings.ts';
import { firstKey } from '../guard/first-key.ts';
import { Fleet } from '../sandbox/fleet/fleet.ts';
import { connectHost, leaveHost } from '../sandbox/host/adopt.ts';
import { findPrograms } from '../sandbox/host/programs.ts';
import { makeDurableDirectory } from '../store/durable-files.ts';
import { doctor } from './doctor.ts';
import { apiOf, baseOf, brainOf, type CommonOptions, openStoreOf, warmUpLater } from './parts.ts';

export type ServerOptions = CommonOptions & {
  /** 0 picks a free one. */
  port: number;
  /** Default 127.0.0.1. */
  host?: string;
  /** Given by the operator; else one is made unless `knownApiKey` is still good. */
  apiKey?: string;
  /** From an earlier start, kept by the one who starts us. */
  knownApiKey?: string;
  /** FROM:TO or FROM:TO:ro, bound into every sandbox. Loud in the log of every session. */
  binds?: string[];
  /** What the operator lets the gateway reach besides public addresses. */
  network?: NetworkOptions;
  /** Runs agents without isolation. Loud in the log of every session. */
  allowUnisolated?: boolean;
};

export type NetworkOptions = {
  /** `name=address` or `name=address:port`, private or not. */
  pins?: string[];
  /** By CIDR. */
  privateNetworks?: string[];
  /** PEM file of authorities to trust upstream, besides the system's. */
  authoritiesFile?: string;
};

export type RunningServer = {
  url: string;
  /** A key that works; null never, but for the type of other roles. */
  apiKey: string;
  /** Lets go of sessions and stops. Commands under way go on in the host for a while, for the next server to adopt. */
  close(): Promise<void>;
};

/** Rejects with `StoreLocked` where another server has the data directory, `BadNetworkSettings`, and where the port or a file cannot be had. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  // The gateway starts when a session first needs it, which would then wait for ever.
  checkNetworkSettings(options.network ?? {});
  const dataDir = path.resolve(options.dataDir);
  makeDurableDirectory(dataDir, 0o700);
  const store = await openStoreOf(dataDir);
  const undo: (() => unknown)[] = [() => store.close()];
  try {
    const base = baseOf(store, dataDir, options, true);
    const gateway = new OwnGateway(gatewayOptions(options, dataDir));
    const host = await connectHost(hostOptions(options, dataDir));
    const hello = await host.hello();
    undo.push(() => leaveHost(host, hello.runningCalls > 0));
    // The same way to the hands as in a fleet of many hosts.
    const fleet = new Fleet();
    fleet.add(hello, host, { isOurs: true });
    const previews = new LocalPreviews();
    const brain = brainOf(base, { ...options, fleet, previews, gatewayAt: () => gateway.client });
    const apiKey = await firstKey(store, options);
    const closing = new AbortController();
    const api = apiOf(base, {
      previews,
      closing,
      sandbox: brain.workspaces,
      environments: brain.environments,
      isolation: options.allowUnisolated ? 'none' : 'bubblewrap',
      ready: () => readiness({ store: store.nextWakeAt(), host: host.hello() }),
      doctor: () => doctor({ dataDir, model: options.model }),
      fleet: fleetDesk(store, () => fleet.hostsNow(), null),
    });
    const http = await listenHttp(api.fetch, options.port, options.host ?? '127.0.0.1');
    undo.push(() => http.close(closing));
    await brain.engine.start();
    brain.errands.start();
    warmUpLater(options.model);
    const close = async (): Promise<void> => {
      http.refuse();
      const isBusy = brain.engine.driving > 0;
      await Promise.all([brain.engine.stop(), brain.errands.stop()]);
      await http.close(closing);
      brain.networks.stop();
      await gateway.leave(isBusy);
      await leaveHost(host, isBusy);
      await store.close();
    };
    return { url: http.url, apiKey, close };
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

function hostOptions(options: ServerOptions, dataDir: string) {
  return {
    stateDir: path.join(dataDir, 'host'),
    allowUnisolated: options.allowUnisolated ?? false,
    binds: options.binds ?? [],
    gatewayDir: captureFolder(path.join(dataDir, 'gateway')),
  };
}

function gatewayOptions({ network = {} }: ServerOptions, dataDir: string) {
  const { authoritiesFile } = network;
  return {
    stateDir: path.join(dataDir, 'gateway'),
    programs: findPrograms(),
    pins: network.pins ?? [],
    privateNetworks: network.privateNetworks ?? [],
    ...(authoritiesFile === undefined ? {} : { authoritiesFile }),
  };
}
