/** The hands by themselves: fresh sandboxes, commands in a running one, and what each round trip costs. */
import { join } from 'node:path';
import type { Executor, Limits, ProcessRead, Refusal } from '../../src/sandbox/executor.ts';
import type { HostClient } from '../../src/sandbox/host/client.ts';
import { nowMs } from './clock.ts';
import { load } from './code-under-test.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import { temporaryFolder } from './processes.ts';

const limits: Limits = {
  memoryBytes: 4 * 1024 ** 3,
  processes: 512,
  openFiles: 4096,
  tmpBytes: 512 * 1024 ** 2,
  fileBytes: 4 * 1024 ** 3,
};

export type SandboxPlan = { creates: number; execs: number };

export async function measureSandbox(isIsolated: boolean, plan: SandboxPlan): Promise<Figure[]> {
  const { connectHost } =
    await load<typeof import('../../src/sandbox/host/adopt.ts')>('src/sandbox/host/adopt');
  const stateDir = join(await temporaryFolder('hands'), 'host');
  const host = await connectHost({ stateDir, allowUnisolated: !isIsolated });
  try {
    const isolation = isIsolated ? 'bubblewrap' : 'none';
    const creates = await timed(plan.creates, async (at) => firstCommand(host, isolation, `fresh-${at}`));
    for (let at = 0; at < plan.creates; at++)
      await host.destroySandbox({ session: `fresh-${at}`, fence: 1, removeDisk: true });
    return [
      figure('sandbox create → first command done', 'ms', creates, {
        target: 60,
        note: isIsolated ? 'bubblewrap' : 'NOT ISOLATED: this machine has no bubblewrap',
      }),
      ...(await measureExec(host, isolation, plan.execs)),
    ];
  } finally {
    await host.shutdownHost();
    await host.close();
  }
}

type Isolation = 'bubblewrap' | 'none';

async function firstCommand(host: Executor, isolation: Isolation, session: string): Promise<void> {
  must(await host.createSandbox({ session, fence: 1, isolation, limits, env: {} }));
  await exec(host, session, 'first', ['/bin/true']);
}

async function measureExec(host: HostClient, isolation: Isolation, execs: number): Promise<Figure[]> {
  const { bashArgv } = await load<typeof import('../../src/tools/bash.ts')>('src/tools/bash');
  const session = 'running';
  await firstCommand(host, isolation, session);
  const spec = { session, fence: 1, isolation, limits, env: {} };
  const run = (name: string, argv: string[]) =>
    timed(execs, (at) => exec(host, session, `${name}-${at}`, argv));
  await run('warm', ['/bin/true']);
  return [
    figure('  exec /bin/true in a running sandbox', 'ms', await run('true', ['/bin/true']), {
      note: 'one round trip: journal + fdatasync, fork in the sandbox, exit',
    }),
    figure(
      '  exec as the bash tool does',
      'ms',
      await run('bash', bashArgv('true', '/workspace', 'call', false)),
      {
        note: 'the same, with bash and its script for the working directory',
      },
    ),
    figure('  round trip to the host', 'ms', await timed(execs, () => host.hello())),
    figure('  sandbox/create of a running one', 'ms', await timed(execs, () => host.createSandbox(spec)), {
      note: 'asked again before every tool call',
    }),
  ];
}

export async function exec(host: Executor, session: string, callId: string, argv: string[]): Promise<void> {
  const answer = await host.startProcess({
    session,
    fence: 1,
    callId,
    argv,
    cwd: '/workspace',
    timeoutMs: 10_000,
    maxOutputBytes: 1 << 20,
    mergeStderr: true,
    waitMs: 5_000,
  });
  const { process } = must<ProcessRead>(answer);
  if (process.state !== 'exited' || process.exitCode !== 0)
    throw new Error(`a trivial command did not end well: ${JSON.stringify(process)}`);
}

export function must<T extends object>(answer: T | Refusal): T {
  if ('refused' in answer) throw new Error(`the host refused: ${answer.message}`);
  return answer;
}

export async function timed(times: number, act: (at: number) => Promise<unknown>): Promise<number[]> {
  const values: number[] = [];
  for (let at = 0; at < times; at++) {
    const startMs = nowMs();
    await act(at);
    values.push(nowMs() - startMs);
  }
  return values;
}
