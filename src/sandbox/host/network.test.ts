// A host that is older than the gateway, as a peer that ignores what it does not know.
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { expect, it } from 'vitest';
import { specOf } from '../../../test/escapes/rig.ts';
import { HostClient } from './client.ts';
import { HOST_PROTOCOL } from './wire.ts';

it('a host that does not know the gateway is refused, not believed', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-old-host-'));
  const old = createServer((socket) => {
    createInterface({ input: socket }).on('line', (line) => {
      const { id, method } = JSON.parse(line) as { id: number; method: string };
      const result =
        method === 'host/hello' ? { protocol: HOST_PROTOCOL } : { network: 'none', warnings: [] };
      socket.write(`${JSON.stringify({ jsonrpc: '2.0', id, result })}\n`);
    });
  });
  await new Promise<void>((resolve) => old.listen(path.join(folder, 'sock'), resolve));
  const client = new HostClient(async () => connect(path.join(folder, 'sock')));
  const network = { kind: 'gateway' as const, ticket: 't', authorityPem: '' };
  expect(await client.createSandbox(specOf('s', { network }))).toMatchObject({
    refused: 'isolation_unavailable',
    message: expect.stringContaining('earlier release'),
  });
  expect(await client.createSandbox(specOf('s'))).toMatchObject({ network: 'none' });
  await client.close();
  old.close();
  rmSync(folder, { recursive: true });
});
