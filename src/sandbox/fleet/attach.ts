/**
 * A host has dialled an engine: the connection becomes a member of the fleet.
 *
 * S4: a host speaks under the name of its token only, so that no host can take another's sessions; one whose token was
 * revoked is not heard at all, and one that was declared lost stays out, because its sessions have gone on elsewhere.
 */
import type { Socket } from 'node:net';
import { HostUnreachable } from '../executor.ts';
import { HostClient } from '../host/client.ts';
import type { HostHello } from '../host/wire.ts';
import type { Fleet } from './fleet.ts';

export type AttachOptions = {
  fleet: Fleet;
  /** Of the token that the host proved to have. */
  name: string;
  socket: Socket;
  isLost(hostId: string): Promise<boolean>;
  /** Of the token. */
  isRevoked(name: string): Promise<boolean>;
};

/** Settles with the host's id, or with why it was turned away. */
export async function attachHost(options: AttachOptions): Promise<{ id: string } | { refused: string }> {
  const { fleet, socket, name } = options;
  let isTaken = false;
  const client = new HostClient(async () => {
    // A connection that a host dialled cannot be dialled again from here.
    if (isTaken) throw new HostUnreachable('the host has disconnected');
    isTaken = true;
    return socket;
  });
  const greeted = await greet(options, client).catch((error: Error) => ({ refused: error.message }));
  if ('refused' in greeted) {
    await client.close();
    socket.destroy();
    return greeted;
  }
  const { hello } = greeted;
  fleet.add(hello, client);
  const gone = (): void => fleet.drop(hello.hostId, client);
  socket.once('close', gone);
  if (socket.destroyed) gone();
  // Revoked since it was greeted: whoever cuts did not find it yet.
  if (await options.isRevoked(name).catch(() => true)) fleet.cut(name);
  return { id: hello.hostId };
}

async function greet(
  { name, isLost, isRevoked }: AttachOptions,
  client: HostClient,
): Promise<{ hello: HostHello } | { refused: string }> {
  if (await isRevoked(name)) return { refused: `the token of host ${name} was revoked` };
  const hello: HostHello = await client.hello();
  const isItsOwn = typeof hello.hostId === 'string' && /^[a-z0-9-]+~[0-9a-f]{10}$/.test(hello.hostId);
  if (!isItsOwn || !hello.hostId.startsWith(`${name}~`))
    return { refused: `host ${name} calls itself ${String(hello.hostId).slice(0, 80)}` };
  if (await isLost(hello.hostId)) return { refused: `host ${hello.hostId} was declared lost` };
  return { hello };
}
