/**
 * Sandboxes with a network: how long until the first command, with a capture namespace from the pool and with a burst that
 * finds it empty; and what the way through the gateway's process adds to a request, real capture included.
 */
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Limits, SandboxSpec } from '../../src/sandbox/executor.ts';
import type { HostClient } from '../../src/sandbox/host/client.ts';
import { load } from './code-under-test.ts';
import { type Figure, figure } from './figure.ts';
import { temporaryFolder } from './processes.ts';
import { exec, must, timed } from './sandbox.ts';

export type NetworkPlan = { creates: number; burst: number; requests: number };

const limits: Limits = {
  memoryBytes: 4 * 1024 ** 3,
  processes: 512,
  openFiles: 4096,
  tmpBytes: 512 * 1024 ** 2,
  fileBytes: 4 * 1024 ** 3,
};
const isolation = 'bubblewrap' as const;

type Opened = { host: HostClient; spec(session: string): Promise<SandboxSpec> };

export async function measureNetwork(plan: NetworkPlan): Promise<Figure[]> {
  const folder = await temporaryFolder('network');
  const { createAuthority } =
    await load<typeof import('../../src/gateway/authority.ts')>('src/gateway/authority');
  const authority = await createAuthority('bench');
  await writeFile(join(folder, 'world.pem'), authority.pem);
  const upstream = createServer(
    {
      SNICallback: (name, done) =>
        void authority.contextFor(name).then((context) => done(null, context), done),
    },
    (_, response) => response.end('ok'),
  );
  upstream.listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  const { port } = upstream.address() as AddressInfo;
  try {
    return await withHost(folder, port, async (opened) => [
      ...(await measureCreate(opened, plan)),
      ...(await measureRequests(opened, plan, { port, authorities: join(folder, 'world.pem') })),
    ]);
  } finally {
    upstream.closeAllConnections();
    upstream.close();
  }
}

async function withHost<T>(folder: string, port: number, work: (opened: Opened) => Promise<T>): Promise<T> {
  const { OwnGateway, captureFolder } =
    await load<typeof import('../../src/gateway/process/adopt.ts')>('src/gateway/process/adopt');
  const { connectHost } =
    await load<typeof import('../../src/sandbox/host/adopt.ts')>('src/sandbox/host/adopt');
  const { findPrograms } =
    await load<typeof import('../../src/sandbox/host/programs.ts')>('src/sandbox/host/programs');
  const stateDir = join(folder, 'gateway');
  const pins = ['tunnelled.example', 'terminated.example'].map((name) => `${name}=127.0.0.1:${port}`);
  const gateway = new OwnGateway({
    ...{ stateDir, programs: findPrograms(), pins, privateNetworks: [] },
    authoritiesFile: join(folder, 'world.pem'),
  });
  const host = await connectHost({ stateDir: join(folder, 'host'), gatewayDir: captureFolder(stateDir) });
  const rule = { effect: 'allow', ports: null, paths: null } as const;
  const rules = [
    { ...rule, id: 'tunnelled', hosts: ['tunnelled.example'], methods: null },
    { ...rule, id: 'terminated', hosts: ['terminated.example'], methods: ['GET'] },
  ];
  const caps = { bytesPerHost: null, connectionsPerHost: 64, connections: 256 };
  const spec = async (session: string): Promise<SandboxSpec> => {
    const ticket = `a-ticket-for-${session}`;
    const life = { ticketIdleMs: 600_000, ticketLifeMs: 600_000 };
    const policy = { rules, otherwise: 'deny' as const, caps };
    const opened = await gateway.client.openSession({
      session,
      fence: 1,
      policy,
      credentials: [],
      ticket,
      ...life,
    });
    if ('refused' in opened) throw new Error(opened.message);
    const network = { kind: 'gateway' as const, ticket, authorityPem: opened.authorityPem };
    return { session, fence: 1, isolation, limits, env: {}, network };
  };
  try {
    return await work({ host, spec });
  } finally {
    await host.shutdownHost();
    await host.close();
    await gateway.leave(false);
  }
}

async function measureCreate({ host, spec }: Opened, plan: NetworkPlan): Promise<Figure[]> {
  const first = async (session: string): Promise<void> => {
    must(await host.createSandbox(await spec(session)));
    await exec(host, session, 'first', ['/bin/true']);
  };
  await first('warm');
  const pooled = await timed(plan.creates, async (at) => {
    await first(`pooled-${at}`);
    await host.destroySandbox({ session: `pooled-${at}`, fence: 1, removeDisk: true });
  });
  const burst = await timed(1, () =>
    Promise.all(Array.from({ length: plan.burst }, (_, at) => first(`burst-${at}`))),
  );
  for (let at = 0; at < plan.burst; at++)
    await host.destroySandbox({ session: `burst-${at}`, fence: 1, removeDisk: true });
  return [
    figure('sandbox with network: create → first command → destroyed', 'ms', pooled, {
      target: 70,
      note: 'opened at the gateway, presented, own CA; namespaces from the pool where it keeps up',
    }),
    figure(
      `  ${plan.burst} of them at once, each`,
      'ms',
      burst.map((all) => all / plan.burst),
      {
        note: 'wall time shared out',
      },
    ),
  ];
}

/** The client in the sandbox measures, with one connection kept alive; the same client on the host is the reference. */
async function measureRequests(
  { host, spec }: Opened,
  plan: NetworkPlan,
  direct: { port: number; authorities: string },
): Promise<Figure[]> {
  const session = 'requests';
  must(await host.createSandbox(await spec(session)));
  const authorities = await readFile(direct.authorities, 'utf8');
  const inside = async (name: string): Promise<number[]> => {
    const script = clientScript({
      host: name,
      port: 443,
      requests: plan.requests,
      servername: name,
      ca: null,
    });
    const answer = await host.startProcess({
      ...{ session, fence: 1, callId: name, argv: ['/opt/scriptorium/bin/node', '-e', script] },
      ...{ cwd: '/workspace', timeoutMs: 60_000, maxOutputBytes: 1 << 22, mergeStderr: true, waitMs: 60_000 },
    });
    const { chunks } = must(answer);
    return JSON.parse(Buffer.concat(chunks.map(({ data }) => data)).toString()) as number[];
  };
  const { execFile } = await import('node:child_process');
  const { promisify } = await import('node:util');
  const address = { host: '127.0.0.1', port: direct.port, servername: 'direct.example', ca: authorities };
  const script = clientScript({ ...address, requests: plan.requests });
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', script], { maxBuffer: 1 << 22 });
  const base = JSON.parse(stdout) as number[];
  const over = (values: number[]): number[] => values.map((value, at) => value - (base[at] ?? 0));
  return [
    figure('https request, keep-alive: direct on the host', 'ms', base),
    figure('  from a sandbox, tunnelled: more than that', 'ms', over(await inside('tunnelled.example')), {
      target: 0.5,
    }),
    figure(
      '  from a sandbox, TLS ended in the gateway: more',
      'ms',
      over(await inside('terminated.example')),
      {
        target: 1,
      },
    ),
  ];
}

function clientScript(options: {
  host: string;
  port: number;
  servername: string;
  requests: number;
  ca: string | null;
}): string {
  const { requests, ca, ...to } = options;
  return `
    const https = require('node:https');
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
    const options = { ...${JSON.stringify(to)}, path: '/', agent, headers: { host: ${JSON.stringify(to.servername)} }, ${ca === null ? '' : `ca: ${JSON.stringify(ca)}`} };
    const one = () => new Promise((resolve, reject) => https.get(options, (answer) => answer.resume().on('end', resolve)).on('error', reject));
    (async () => {
      for (let i = 0; i < 50; i++) await one();
      const times = [];
      for (let i = 0; i < ${requests}; i++) {
        const start = performance.now();
        await one();
        times.push(performance.now() - start);
      }
      times.sort((a, b) => a - b);
      console.log(JSON.stringify(times));
      process.exit();
    })();`;
}
