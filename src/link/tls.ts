/**
 * Links between processes of a fleet: TCP with TLS 1.2, a pre-shared key and an ephemeral exchange (a key that leaks
 * later opens nothing that was recorded before). No certificates, no other suite, no version to fall back to.
 *
 * - S4: an unknown identity, a wrong key, plain TCP and a handshake that takes its time are cut off before we read a byte
 *   of them. Half-made handshakes are bounded in number, so that strangers cannot use up descriptors.
 * - Whoever dials knows as well whom it reached: only a holder of the cluster secret can finish the handshake.
 */
import { createServer, type Socket, connect as tcpConnect } from 'node:net';
import { TLSSocket, connect as tlsConnect } from 'node:tls';
import { keyOfPeer, type Token } from './secret.ts';

const suite = {
  ciphers: 'ECDHE-PSK-CHACHA20-POLY1305',
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.2',
} as const;

const defaultHandshakeMs = 5_000;
const maxHandshakes = 128;
/** The other machine is gone without a word after about a minute of the kernel's asking. */
const keepAliveMs = 15_000;

export type Address = { host: string; port: number };

export type ListenOptions = Address & {
  secret: Buffer;
  onLink(identity: string, socket: Socket): void;
  handshakeMs?: number;
};

export type LinkServer = { port: number; close(): Promise<void> };

/** Port 0 picks a free one. Rejects where the address cannot be had. */
export async function listenForLinks(options: ListenOptions): Promise<LinkServer> {
  const open = new Set<Socket>();
  let handshakes = 0;
  const server = createServer((raw) => {
    open.add(raw);
    raw.once('close', () => open.delete(raw));
    if (handshakes >= maxHandshakes) return void raw.destroy();
    handshakes++;
    shakeHands(raw, options, () => {
      handshakes--;
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    async close() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function shakeHands(raw: Socket, options: ListenOptions, onOver: () => void): void {
  let peer: string | null = null;
  raw.setKeepAlive(true, keepAliveMs);
  raw.setNoDelay(true);
  // A variable of its own: Node takes the callback here, too, though its types have it only on servers.
  const server = {
    ...suite,
    isServer: true,
    pskCallback(_socket: TLSSocket, identity: string) {
      peer = identity;
      return keyOfPeer(options.secret, identity);
    },
  };
  const socket = new TLSSocket(raw, server);
  const timer = setTimeout(() => socket.destroy(), options.handshakeMs ?? defaultHandshakeMs);
  let isOver = false;
  const over = (): void => {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    onOver();
  };
  socket.on('error', () => socket.destroy());
  raw.on('error', () => socket.destroy());
  // Whatever ends either of the two ends both.
  raw.once('close', () => socket.destroy());
  socket.once('close', () => {
    raw.destroy();
    over();
  });
  socket.once('secure', () => {
    over();
    if (peer === null) socket.destroy();
    else options.onLink(peer, socket);
  });
}

/** Rejects where nobody is there, or somebody who does not hold the cluster secret. */
export function dialLink(to: Address, token: Token, handshakeMs = defaultHandshakeMs): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const raw = tcpConnect(to);
    raw.setKeepAlive(true, keepAliveMs);
    raw.setNoDelay(true);
    const socket = tlsConnect({
      ...suite,
      socket: raw,
      pskCallback: () => ({ psk: token.key, identity: token.identity }),
      // There is no certificate whose names could be compared: the key is the proof.
      checkServerIdentity: () => undefined,
    });
    const fail = (error: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      raw.destroy();
      reject(error);
    };
    const place = `${to.host}:${to.port}`;
    const timer = setTimeout(() => fail(new Error(`${place} did not answer in time`)), handshakeMs);
    raw.once('error', fail);
    socket.once('error', fail);
    const onClose = (): void => fail(new Error(`${place} closed the connection`));
    socket.once('close', onClose);
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      socket.off('error', fail).off('close', onClose);
      socket.on('error', () => socket.destroy());
      resolve(socket);
    });
  });
}

/** `host:port`, `[v6]:port`; null for anything else. */
export function parseAddress(text: string): Address | null {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  const host = found?.[1] ?? found?.[2];
  return host === undefined || port > 65_535 ? null : { host, port };
}

export function showAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
