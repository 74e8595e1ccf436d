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
  /** Breaks one of them. */
  cutOne(choice: number): void;
  /** For so long nothing comes through, and nobody is told; then it comes late. */
  freeze(ms: number): void;
  /** For so long: requests arrive, answers do not; then the connections break. */
  loseReplies(ms: number): void;
  /** The same in the other direction. */
  loseRequests(ms: number): void;
  delay(ms: number, byMs: number): void;
  refuse(ms: number): void;
  close(): Promise<void>;
};

type Pair = {
  client: Socket;
  upstream: Socket;
  /** Something was swallowed: nothing may come after it. */
  isMute: boolean;
  isDeaf: boolean;
  /** For its whole life, so that nothing overtakes. */
  delayMs: number;
};

export async function startWire(): Promise<Wire> {
  const pairs = new Set<Pair>();
  const until = { lose: 0, loseRequests: 0, delay: 0, refuse: 0, freeze: 0 };
  let delayMs = 0;
  const cut = (): void => {
    for (const pair of pairs) breakPair(pair);
  };
  const server: Server = createServer((client) => {
    client.on('error', () => client.destroy());
    if (wire.target === null || Date.now() < until.refuse) return void client.resetAndDestroy();
    const upstream = connect(wire.target);
    const pairDelayMs = Date.now() < until.delay ? delayMs : 0;
    const pair: Pair = { client, upstream, isMute: false, isDeaf: false, delayMs: pairDelayMs };
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
    client.on('data', (chunk: Buffer) => {
      pair.isDeaf ||= Date.now() < until.loseRequests;
      if (!pair.isDeaf) later(pair, () => upstream.write(chunk));
    });
    upstream.on('data', (chunk: Buffer) => {
      pair.isMute ||= Date.now() < until.lose;
      if (!pair.isMute) later(pair, () => client.write(chunk));
    });
    if (Date.now() < until.freeze) freezePair(pair, until.freeze - Date.now());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const wire: Wire = {
    port: (server.address() as AddressInfo).port,
    target: null,
    cut,
    cutOne(choice) {
      const one = [...pairs][choice % Math.max(1, pairs.size)];
      if (one) breakPair(one);
    },
    freeze(ms) {
      until.freeze = Date.now() + ms;
      for (const pair of pairs) freezePair(pair, ms);
    },
    loseReplies(ms) {
      until.lose = Date.now() + ms;
      setTimeout(cut, ms);
    },
    loseRequests(ms) {
      until.loseRequests = Date.now() + ms;
      setTimeout(cut, ms);
    },
    delay(ms, byMs) {
      until.delay = Date.now() + ms;
      delayMs = byMs;
      for (const pair of pairs) pair.delayMs = Math.max(pair.delayMs, byMs);
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

function breakPair({ client, upstream }: Pair): void {
  client.resetAndDestroy();
  upstream.destroy();
}

function freezePair({ client, upstream }: Pair, ms: number): void {
  for (const socket of [client, upstream]) socket.pause();
  setTimeout(() => {
    for (const socket of [client, upstream]) socket.resume();
  }, ms);
}

function later({ delayMs }: Pair, act: () => void): void {
  if (delayMs > 0) setTimeout(act, delayMs);
  else act();
}
