/**
 * What a checkpoint and a fork of a large workspace cost, by each way of keeping disks that this machine has, beside what
 * a git repository of the same tree takes. Through the host's socket, with its journal: what an engine waits for.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Limits, Refusal } from '../../src/sandbox/executor.ts';
import type { HostClient } from '../../src/sandbox/host/client.ts';
import { load } from './code-under-test.ts';
import { type Figure, figure } from './figure.ts';
import { temporaryFolder } from './processes.ts';
import { timed } from './sandbox.ts';

export type CheckpointPlan = { files: number; fileBytes: number; rounds: number };

const drivers = ['btrfs', 'ext4', 'tar'] as const;
type Driver = (typeof drivers)[number];

const limits: Limits = {
  memoryBytes: 2 * 1024 ** 3,
  processes: 256,
  openFiles: 4096,
  tmpBytes: 256 * 1024 ** 2,
  fileBytes: 4 * 1024 ** 3,
  diskBytes: 4 * 1024 ** 3,
};

const makeFiles = `
const [files, bytes] = process.argv.slice(1).map(Number);
const crypto = require('node:crypto');
for (let i = 0; i < files; i++) {
  const folder = 'd' + Math.floor(i / 100);
  if (i % 100 === 0) fs.mkdirSync(folder);
  const half = crypto.randomBytes(bytes / 4).toString('hex');
  fs.writeFileSync(folder + '/f' + i, half + 'x'.repeat(bytes - half.length));
}`;
const touch = 'for i in $(seq 0 19); do echo changed >> d$i/f$((i * 100)); done';

export async function measureCheckpoints(plan: CheckpointPlan): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const driver of drivers) if (canBeHad(driver)) figures.push(...(await measureDriver(driver, plan)));
  return figures;
}

function canBeHad(driver: Driver): boolean {
  if (driver === 'tar') return true;
  return (
    process.getuid?.() === 0 && existsSync('/dev/loop-control') && existsSync(`/usr/sbin/mkfs.${driver}`)
  );
}

async function measureDriver(driver: Driver, plan: CheckpointPlan): Promise<Figure[]> {
  const { connectHost } =
    await load<typeof import('../../src/sandbox/host/adopt.ts')>('src/sandbox/host/adopt');
  const stateDir = join(await temporaryFolder('disks'), 'host');
  const host = await connectHost({ stateDir, diskDriver: driver });
  try {
    const session = 'large';
    must(await host.createSandbox({ session, fence: 1, isolation: 'bubblewrap', limits, env: {} }));
    await run(host, session, [
      '/opt/scriptorium/bin/node',
      '-e',
      makeFiles,
      `${plan.files}`,
      `${plan.fileBytes}`,
    ]);
    await run(host, session, ['/bin/sync']);
    const make = (name: string) => async (at: number) =>
      must(await host.checkpoint({ session, fence: 1, checkpoint: `${name}-${at}` }));
    const first = await timed(1, make('first'));
    const more = await afterChanges(host, session, plan.rounds, make('more'));
    const forks = await timed(plan.rounds, async (at) =>
      must(
        await host.restore({
          ...{ session: `fork-${at}`, fence: 1, callId: 'fork' },
          from: { session, checkpoint: 'more-0' },
        }),
      ),
    );
    const about = `${plan.files} files, ${Math.round((plan.files * plan.fileBytes) / 1e6)} MB`;
    return [
      figure(`checkpoint by ${driver}, the first`, 'ms', first, { note: about }),
      figure(`  after 20 files were changed`, 'ms', more, driver === 'btrfs' ? { target: 100 } : {}),
      figure(`  fork into a new session`, 'ms', forks, driver === 'btrfs' ? { target: 100 } : {}),
      ...(driver === 'tar' ? await measureGit(host, session, plan) : []),
    ];
  } finally {
    await host.shutdownHost();
    await host.close();
  }
}

/** Only the act is timed, not the changes before it. */
async function afterChanges(
  host: HostClient,
  session: string,
  rounds: number,
  act: (at: number) => Promise<unknown>,
): Promise<number[]> {
  const values: number[] = [];
  for (let at = 0; at < rounds; at++) {
    await run(host, session, ['/bin/sh', '-c', touch]);
    values.push(...(await timed(1, () => act(at))));
  }
  return values;
}

/** A shadow repository, as others do it: it loses modes, times, empty folders, nested repositories and more. */
async function measureGit(host: HostClient, session: string, plan: CheckpointPlan): Promise<Figure[]> {
  const git = 'git --git-dir /home/agent/shadow --work-tree /workspace -c user.name=b -c user.email=b@b';
  const commit = `${git} add -A && ${git} commit -qm x`;
  await run(host, session, ['/bin/sh', '-c', 'git init -q --bare /home/agent/shadow']);
  const act = () => run(host, session, ['/bin/sh', '-c', commit]);
  const first = await timed(1, act);
  const more = await afterChanges(host, session, plan.rounds, act);
  return [
    figure('for comparison: git add and commit of the same tree, the first', 'ms', first),
    figure('  after 20 files were changed', 'ms', more, {
      note: 'keeps less: see docs/design/checkpoints.md',
    }),
  ];
}

let calls = 0;

async function run(host: HostClient, session: string, argv: string[]): Promise<void> {
  const answer = must(
    await host.startProcess({
      ...{ session, fence: 1, callId: `call-${++calls}`, argv, cwd: '/workspace' },
      ...{ timeoutMs: 300_000, maxOutputBytes: 1 << 20, mergeStderr: true, waitMs: 300_000 },
    }),
  );
  const { process, chunks } = answer;
  if (process.state === 'exited' && process.exitCode === 0) return;
  throw new Error(`${argv[0]} did not end well: ${JSON.stringify(process)} ${chunks[0]?.data ?? ''}`);
}

function must<T extends object>(answer: T | Refusal): T {
  if ('refused' in answer) throw new Error(`the host refused: ${answer.message}`);
  return answer;
}
