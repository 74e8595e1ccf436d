import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Joining } from './join.ts';
import { mintHostToken, parseToken, type Token } from './secret.ts';
import { listenForLinks } from './tls.ts';

const secret = Buffer.from('0123456789abcdef0123456789abcdef');

it('dials a lost engine again while no api answers, and leaves one alone that is named no more', async () => {
  const links: Socket[] = [];
  const onLink = (_: string, socket: Socket): void => void links.push(socket);
  const engine = await listenForLinks({ secret, host: '127.0.0.1', port: 0, onLink });
  let answer: { engines: string[] } | null = { engines: [`127.0.0.1:${engine.port}`] };
  let asked = 0;
  const api = createServer((_, response) => {
    asked++;
    response.writeHead(answer === null ? 500 : 200).end(JSON.stringify(answer ?? {}));
  }).listen(0, '127.0.0.1');
  await once(api, 'listening');
  const joining = new Joining({
    url: `http://127.0.0.1:${(api.address() as AddressInfo).port}`,
    token: parseToken(mintHostToken(secret, 'one')) as Token,
    serve: () => {},
    onChange: () => {},
    everyMs: 700,
  });
  joining.start();
  try {
    const linked = async (count: number): Promise<void> => {
      while (links.length < count) await sleep(10);
    };
    await linked(1);
    answer = null;
    for (const count of [2, 3]) {
      links.at(-1)?.destroy();
      await linked(count);
    }
    answer = { engines: [] };
    for (const before = asked; asked < before + 2; ) await sleep(10);
    links.at(-1)?.destroy();
    for (const before = asked; asked < before + 3; ) await sleep(10);
    expect(links).toHaveLength(3);
  } finally {
    joining.stop();
    api.close();
    await engine.close();
  }
});
