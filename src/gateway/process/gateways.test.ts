// Gateways that dial an engine, over real links; what each of them is stands in memory.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MemoryGateway } from '../../../test/peers/memory-gateway.ts';
import { gatewayNameOf, mintGatewayToken, parseToken, type Token } from '../../link/secret.ts';
import { dialLink, type LinkServer, listenForLinks } from '../../link/tls.ts';
import { GatewayAway, type GatewaySession } from '../gateway.ts';
import { Gateways } from './gateways.ts';
import { serveGateway } from './serve.ts';

const secret = Buffer.from('0123456789abcdef0123456789abcdef');
let gateways: Gateways;
let engine: LinkServer;
let revoked: Set<string>;
let attached: Promise<{ name: string } | { refused: string }>[];

const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await sleep(5);
};

async function open(options: ConstructorParameters<typeof Gateways>[0] = { settleMs: 0 }): Promise<void> {
  gateways = new Gateways(options);
  engine = await listenForLinks({
    ...{ secret, host: '127.0.0.1', port: 0 },
    onLink: (identity, socket) => {
      const name = gatewayNameOf(identity) ?? '';
      attached.push(gateways.attach({ name, socket, isRevoked: async (of) => revoked.has(of) }));
    },
  });
}

/** A gateway of that name dials, and is taken in or not. */
async function dial(name: string, serve: (socket: Socket) => void): Promise<Socket> {
  const token = parseToken(mintGatewayToken(secret, name)) as Token;
  const before = attached.length;
  const socket = await dialLink({ host: '127.0.0.1', port: engine.port }, token);
  serve(socket);
  await until(() => attached.length > before);
  return socket;
}

const serving = (gateway: MemoryGateway) => (socket: Socket) =>
  void serveGateway(socket, { gateway, onShutdown: null });

/** Its generation tells which of them answers. */
async function generationAt(host: string): Promise<string | undefined> {
  return gateways.at(host)?.generation();
}

beforeEach(() => {
  revoked = new Set();
  attached = [];
});

afterEach(async () => {
  await gateways.close();
  await engine.close();
});

it('a session goes by the gateway of its host’s name, never by another’s, and is refused where none ever was (S4)', async () => {
  await open();
  const [one, two] = [new MemoryGateway(), new MemoryGateway()];
  two.restart();
  await dial('one', serving(one));
  await dial('one-and-more', serving(two));
  await Promise.all(attached);
  expect(await generationAt('one~0123456789')).toBe('generation-1');
  expect(await generationAt('one-and-more~0123456789')).toBe('generation-2');
  expect(gateways.isBeside('one~0123456789')).toBe(true);
  expect(gateways.at('on~0123456789')).toBeNull();
  expect(gateways.isBeside('on~0123456789')).toBe(false);
});

it('one that is away is waited for and never said not to exist; what was asked of it ends with that', async () => {
  await open();
  const socket = await dial('one', serving(new MemoryGateway()));
  await Promise.all(attached);
  const known = gateways.at('one~0');
  await known?.openSession({ session: 's' } as GatewaySession);
  const waiting = known?.observe({ session: 's', acknowledge: 0, waitMs: 60_000 });
  const over = expect(waiting).rejects.toThrow(GatewayAway);
  socket.destroy();
  await over;
  await until(() => !gateways.isBeside('one~0'));
  await expect(generationAt('one~0')).rejects.toThrow(GatewayAway);
  await expect(gateways.at(null)?.generation()).rejects.toThrow(GatewayAway);
  await dial('one', serving(new MemoryGateway()));
  await Promise.all(attached);
  // Whoever held it before the link broke goes on with it.
  expect(await known?.generation()).toBe('generation-1');
});

it('an engine that has just started says of no gateway that there is none', async () => {
  await open({ settleMs: 60_000 });
  await expect(generationAt('one~0')).rejects.toThrow(GatewayAway);
});

it('of two connections under a name the newer one counts, and the older one is ended', async () => {
  await open();
  const [older, newer] = [new MemoryGateway(), new MemoryGateway()];
  newer.restart();
  const socket = await dial('one', serving(older));
  await attached[0];
  const ended = once(socket, 'close');
  await dial('one', serving(newer));
  await attached[1];
  await ended;
  expect(await generationAt('one~0')).toBe('generation-2');
  expect(gateways.isBeside('one~0')).toBe(true);
});

it('one that says nothing more is cut off', async () => {
  await open({ settleMs: 0, pingMs: 20, silentMs: 100 });
  const socket = await dial('one', serving(new MemoryGateway()));
  await Promise.all(attached);
  expect(gateways.isBeside('one~0')).toBe(true);
  socket.removeAllListeners('data').resume();
  await until(() => !gateways.isBeside('one~0'));
});

it('one whose token is revoked hears no word, and one that is in is cut (S4)', async () => {
  await open();
  const inside = await dial('one', serving(new MemoryGateway()));
  expect(await attached[0]).toEqual({ name: 'one' });
  const ended = once(inside, 'close');
  revoked.add('one');
  gateways.cut('one');
  await ended;
  let heard = 0;
  const listening = (socket: Socket) => socket.on('data', (data: Buffer) => (heard += data.length));
  // It may be gone before the handshake is over for whoever dials.
  const again = await dial('one', listening).catch(() => null);
  await until(() => attached.length === 2);
  expect(await attached[1]).toMatchObject({ refused: expect.stringContaining('revoked') });
  if (again && !again.closed) await once(again, 'close');
  expect(heard).toBe(0);
});

it('nobody ends a joined gateway over its link', async () => {
  await open();
  const socket = await dial('one', serving(new MemoryGateway()));
  await Promise.all(attached);
  expect(socket.destroyed).toBe(false);
  const gateway = gateways.at('one~0') as unknown as { client: { shutdown(): Promise<void> } };
  await expect(gateway.client.shutdown()).rejects.toThrow(/no method gateway\/shutdown/);
});
