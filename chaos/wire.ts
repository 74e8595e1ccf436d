/**
 * A lying wire: a TCP proxy on the loopback that cuts, delays, refuses and swallows answers. What it lies about is
 * decided by whoever holds it; bytes themselves are never changed, since TCP would not.
 */
import type { AddressInfo, Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';

export type Wire = {
  port: number;
  /** Connections to come go there. */
  target: { host: string; port: number } | null;
  /** Breaks every connection, in the middle of whatever it carries. */
  cut(): void;
  /** For so long: requests arrive, answers do not; then the connections break. */
  loseReplies(ms: number): void;
  delay(ms: number, byMs: number): void;
  refuse(ms: number): void;
  close(): Promise<void>;
};

type Pair = { client: Socket; upstream: Socket };

export async function startWire(): Promise<Wire> {
  const pairs = new Set<Pair>();
  const until = { lose: 0, delay: 0, refuse: 0 };
  let delayMs = 0;
  const cut = (): void => {
    for (const { client, upstream } of pairs) {
      client.resetAndDestroy();
      upstream.destroy();
    }
  };
  const server: Server = createServer((client) => {
    client.on('error', () => client.destroy());
    if (wire.target === null || Date.now() < until.refuse) return void client.resetAndDestroy();
    const upstream = connect(wire.target);
    const pair = { client, upstream };
    pairs.add(pair);
    const close = (): void => {
      pairs.delete(pair);
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      socket.setNoDelay(true);
      socket.on('error', close);
      socket.on('close', close);
    }
    client.on('data', (chunk: Buffer) => later(() => upstream.write(chunk)));
    upstream.on('data', (chunk: Buffer) => {
      if (Date.now() >= until.lose) later(() => client.write(chunk));
    });
  });
  /** Order is kept: all chunks of a time wait equally long. */
  const later = (act: () => void): void => {
    if (Date.now() < until.delay) setTimeout(act, delayMs);
    else act();
  };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const wire: Wire = {
    port: (server.address() as AddressInfo).port,
    target: null,
    cut,
    loseReplies(ms) {
      until.lose = Date.now() + ms;
      // Nothing may come after what was swallowed.
      setTimeout(cut, ms);
    },
    delay(ms, byMs) {
      until.delay = Date.now() + ms;
      delayMs = byMs;
      // The delayed are overtaken by what comes after the delay, which TCP never does: so they are cut.
      setTimeout(cut, ms);
    },
    refuse(ms) {
      until.refuse = Date.now() + ms;
      cut();
    },
    close: () =>
      new Promise((resolve) => {
        cut();
        server.close(() => resolve());
      }),
  };
  return wire;
}
