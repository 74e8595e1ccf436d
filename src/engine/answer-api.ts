/**
 * What an engine tells an api in another process, over a link: previews as they come, the workspace of a session, the
 * hosts it is connected to. Nothing is kept for an api that is gone.
 */
import type { Duplex } from 'node:stream';
import { RpcPeer } from '../link/rpc.ts';
import type { PreviewBus } from '../protocol/previews.ts';
import type { Fleet } from '../sandbox/fleet/fleet.ts';
import type { Workspaces } from './workspace.ts';

type Parts = { previews: PreviewBus; workspaces: Workspaces; fleet: Fleet };

const maxSubscriptions = 20_000;

export function answerApi(socket: Duplex, { previews, workspaces, fleet }: Parts): void {
  const subscriptions = new Map<string, () => void>();
  const subscribe = (session: string): void => {
    if (subscriptions.has(session) || subscriptions.size >= maxSubscriptions) return;
    const stop = previews.subscribe(session, (frame) => peer.tell('previews/frame', { session, frame }));
    subscriptions.set(session, stop);
  };
  const unsubscribe = (session: string): void => {
    subscriptions.get(session)?.();
    subscriptions.delete(session);
  };
  const peer = new RpcPeer(
    socket,
    (method, params) => {
      if (method === 'workspace/diff') return workspaces.diff(sessionOf(params));
      if (method === 'workspace/bundle') return workspaces.makeBundle(sessionOf(params));
      if (method === 'hosts/list') return Promise.resolve(fleet.hosts());
      return undefined;
    },
    (method, params) => {
      if (method === 'previews/subscribe') subscribe(sessionOf(params));
      if (method === 'previews/unsubscribe') unsubscribe(sessionOf(params));
    },
  );
  void peer.closed.then(() => {
    for (const session of subscriptions.keys()) unsubscribe(session);
  });
}

function sessionOf(params: unknown): string {
  const session = typeof params === 'object' && params !== null && 'session' in params ? params.session : '';
  return String(session).slice(0, 128);
}
