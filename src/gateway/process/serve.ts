/**
 * The gateway's side of its links: an engine asks, the gateway of this process answers. No method gives a secret back (S1).
 */
import type { Duplex } from 'node:stream';
import { RpcPeer } from '../../link/rpc.ts';
import type { Gateway, GatewaySession } from '../gateway.ts';
import { GATEWAY_PROTOCOL, type GatewayHello } from './client.ts';

export type Served = {
  gateway: Gateway;
  /** Asked for by an owner on this machine; links that we dialled may not. */
  onShutdown: (() => void) | null;
};

export function serveGateway(socket: Duplex, served: Served): RpcPeer {
  return new RpcPeer(socket, (method, params) => answer(served, method, params as never));
}

function answer(
  { gateway, onShutdown }: Served,
  method: string,
  params: GatewaySession & { acknowledge: number; waitMs: number },
): Promise<unknown> | undefined {
  switch (method) {
    case 'gateway/hello':
      return greet(gateway);
    case 'gateway/open':
      return gateway.openSession(params);
    case 'gateway/close':
      return gateway.closeSession({ session: String(params.session), fence: Number(params.fence) });
    case 'gateway/observe': {
      const { session, acknowledge, waitMs } = params;
      return gateway.observe({
        session: String(session),
        acknowledge: Number(acknowledge),
        waitMs: Number(waitMs),
      });
    }
    case 'gateway/shutdown':
      if (onShutdown) setImmediate(onShutdown);
      return onShutdown ? Promise.resolve({}) : undefined;
    default:
      return undefined;
  }
}

async function greet(gateway: Gateway): Promise<GatewayHello> {
  const generation = await gateway.generation();
  const uid = process.getuid?.() ?? null;
  return { protocol: GATEWAY_PROTOCOL, generation, pid: process.pid, uid };
}
