/**
 * One sandbox's share of the capture: its namespace, what it trusts, and its presentation to the gateway.
 *
 * Promises: S4, a network that cannot be had is a Refusal with the remedy, never a sandbox with another one.
 */
import type { RunningSandbox, StartRequest } from '../backend.ts';
import { type GatewayNetwork, isRefusal, type Refusal } from '../executor.ts';
import type { CapturePool } from './capture-pool.ts';
import { type Trust, writeTrust } from './trust.ts';

export type Captured = {
  trust: Trust;
  /** Arguments for the launcher. */
  join: string[];
  /** The first presentation, which goes on while the sandbox starts. */
  connected: Promise<Refusal | null>;
  connect(network: GatewayNetwork): Promise<Refusal | null>;
  ended: Promise<string>;
  stop(): Promise<void>;
};

export async function takeCapture(
  pool: CapturePool | null,
  network: NonNullable<StartRequest['network']>,
): Promise<Captured | Refusal> {
  if (pool === null)
    return unavailable('this host was started without --gateway-dir: end it and start it with the gateway');
  const namespace = await pool.take();
  if ('problem' in namespace) return unavailable(`no capture namespace: ${namespace.problem}`);
  const join = namespace.join();
  if ('problem' in join) {
    await namespace.stop();
    return unavailable(join.problem);
  }
  const stop = (): Promise<void> => namespace.stop();
  let trusted = network.authorityPem;
  const connect = async ({ ticket, authorityPem }: GatewayNetwork): Promise<Refusal | null> => {
    if (trusted !== authorityPem) writeTrust(network.trustFolder, authorityPem);
    trusted = authorityPem;
    if (namespace.isPresented(ticket)) return null;
    const why = await namespace.present(ticket);
    return why === null ? null : unavailable(why);
  };
  try {
    return {
      trust: writeTrust(network.trustFolder, network.authorityPem),
      ...{ join, connect, connected: connect(network), stop, ended: namespace.ended },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Starts a sandbox with its network, and gives that back where the sandbox does not start after all. */
export async function withCapture(
  pool: CapturePool | null,
  network: StartRequest['network'],
  start: (captured: Captured | null) => Promise<RunningSandbox | Refusal>,
): Promise<RunningSandbox | Refusal> {
  const captured = network === null ? null : await takeCapture(pool, network);
  if (captured !== null && isRefusal(captured)) return captured;
  let started: RunningSandbox | Refusal | null = null;
  try {
    started = await start(captured);
    const refusal = (await captured?.connected) ?? null;
    if (refusal === null || isRefusal(started)) return started;
    await started.stop();
    return refusal;
  } finally {
    if (started === null || isRefusal(started)) await captured?.stop();
  }
}

function unavailable(message: string): Refusal {
  return { refused: 'isolation_unavailable', message };
}
