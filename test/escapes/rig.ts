/**
 * A host of its own for a test file, and short ways to ask it things. `close` ends everything it started, and says
 * so when something is left: a test that leaks a process, a socket or a cgroup is a failed test (S5).
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  HostUnreachable,
  type Isolation,
  isRefusal,
  type ProcessRead,
  type ProcessState,
  type Refusal,
  type SandboxInfo,
  type SandboxSpec,
  type StartProcess,
} from '../../src/sandbox/executor.ts';
import { type ConnectOptions, connectHost, findHost } from '../../src/sandbox/host/adopt.ts';
import type { HostClient } from '../../src/sandbox/host/client.ts';

export type Ran = {
  stdout: string;
  stderr: string;
  control: string;
  droppedBytes: number;
  process: ProcessState;
};

/** Which backend the tests of sandboxes speak with; all of them hold for bubblewrap, those that can for gVisor. */
const testIsolation: Isolation =
  process.env.SCRIPTORIUM_TEST_ISOLATION === 'gvisor' ? 'gvisor' : 'bubblewrap';
export const isGvisor = testIsolation === 'gvisor';

export const specOf = (session: string, more: Partial<SandboxSpec> = {}): SandboxSpec => ({
  session,
  fence: 1,
  isolation: testIsolation,
  limits: {
    memoryBytes: 256 << 20,
    processes: 128,
    openFiles: 1024,
    tmpBytes: 32 << 20,
    fileBytes: 1 << 30,
  },
  env: {},
  ...more,
});

/** The value, or a failure that shows the refusal. */
export function unrefused<T extends object>(value: T | Refusal): T {
  if (isRefusal(value)) throw new Error(`refused: ${value.refused}: ${value.message}`);
  return value;
}

export function joined(read: ProcessRead): Ran {
  const of = (stream: string): string =>
    Buffer.concat(
      read.chunks.filter((chunk) => chunk.stream === stream).map((chunk) => chunk.data),
    ).toString();
  const { droppedBytes, process } = read;
  return { stdout: of('stdout'), stderr: of('stderr'), control: of('control'), droppedBytes, process };
}

/** Waits for something that others must do, without a guess about how long it takes them. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    if (await holds()) return;
    await delay(20);
  }
  throw new Error(`never: ${what}`);
}

/** Whether a host of that folder can be spoken to. Starts none. */
export async function answers(stateDir: string): Promise<boolean> {
  const found = await findHost(stateDir);
  await found?.close();
  return found !== null;
}

/** Processes of the whole machine whose command line holds `text`, as the host sees them. */
export function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** By the kernel's short name: unlike the command line it can be read while a process forks all the time. */
export function processesNamed(name: string): number[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && isAlive(Number(pid)))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === name;
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** bwrap, or runsc, is the host's child, and PID 1 is below it. */
export function sandboxesOf(hostPid: number): number[] {
  const parent = (pid: number): number =>
    Number(/^PPid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  return processesWith(isGvisor ? 'runsc\0' : 'bwrap\0').filter((pid) => parent(pid) === hostPid);
}

export function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** Cgroups of hosts below our own groups; none may be left when no host runs. */
export function cgroupsOf(hostPid: number): string[] {
  const found: string[] = [];
  for (const line of readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n')) {
    const [, names, own] = line.split(':');
    for (const place of [
      `/sys/fs/cgroup/${names || 'unified'}${own}`,
      `/sys/fs/cgroup/${names || 'unified'}`,
      `/sys/fs/cgroup${own}`,
    ])
      try {
        found.push(...readdirSync(place).filter((name) => name.includes(`-${hostPid}-`)));
      } catch {
        // Not mounted here.
      }
  }
  return found;
}

export class Rig {
  readonly stateDir: string;
  readonly options: ConnectOptions;
  client: HostClient;
  #calls = 0;

  private constructor(options: ConnectOptions, client: HostClient) {
    this.options = options;
    this.stateDir = options.stateDir;
    this.client = client;
  }

  static async start(more: Partial<ConnectOptions> = {}): Promise<Rig> {
    const stateDir = more.stateDir ?? mkdtempSync(path.join(tmpdir(), 'scriptorium-host-'));
    const options = { ownerGraceMs: 20_000, ...more, stateDir };
    return new Rig(options, await connectHost(options));
  }

  /** A second client, or the first one of the next host. */
  connect(): Promise<HostClient> {
    return connectHost(this.options);
  }

  async create(session: string, more: Partial<SandboxSpec> = {}): Promise<SandboxInfo> {
    return unrefused(await this.client.createSandbox(specOf(session, more)));
  }

  start(session: string, argv: string[], more: Partial<StartProcess> = {}): StartProcess {
    this.#calls++;
    return {
      session,
      fence: 1,
      callId: `call_${this.#calls}`,
      argv,
      cwd: '/workspace',
      timeoutMs: 20_000,
      maxOutputBytes: 1 << 20,
      mergeStderr: false,
      waitMs: 25_000,
      ...more,
    };
  }

  /** Kills the host as hard as can be, and reaches the next one. Returns the pid of the dead one. */
  async killHost(): Promise<number> {
    const { pid } = await this.client.hello();
    process.kill(pid, 'SIGKILL');
    await eventually('the host is dead', () => !isAlive(pid));
    return pid;
  }

  /** The client learns of a host's death by a call that fails; the next one finds or starts another. */
  async reach(): Promise<number> {
    for (;;)
      try {
        return (await this.client.hello()).pid;
      } catch (error) {
        if (!(error instanceof HostUnreachable)) throw error;
      }
  }

  /** Runs to the end. */
  async run(session: string, argv: string[], more: Partial<StartProcess> = {}): Promise<Ran> {
    return joined(unrefused(await this.client.startProcess(this.start(session, argv, more))));
  }

  sh(session: string, script: string, more: Partial<StartProcess> = {}): Promise<Ran> {
    return this.run(session, ['/bin/sh', '-c', script], more);
  }

  /** Processes whose command line holds `text`: the machine's, or where that cannot see them the session's. */
  async processesWith(session: string, text: string): Promise<number[]> {
    if (!isGvisor) return processesWith(text).filter(isAlive);
    return this.#inside(session, (stat, line) => !/\) [ZX] /.test(stat) && line.includes(text));
  }

  async processesNamed(session: string, name: string): Promise<number[]> {
    if (!isGvisor) return processesNamed(name);
    return this.#inside(session, (stat) => stat.includes(`(${name})`) && !/\) [ZX] /.test(stat));
  }

  async #inside(session: string, holds: (stat: string, line: string) => boolean): Promise<number[]> {
    const script =
      'for f in /proc/[0-9]*; do cat $f/stat; echo -n "\t"; cat $f/cmdline; echo; done 2>/dev/null';
    const { stdout } = await this.sh(session, script);
    return stdout.split('\n').flatMap((stat, i, lines) => {
      const line = lines[i + 1]?.startsWith('\t') ? lines[i + 1] : undefined;
      return line !== undefined && holds(stat, line) ? [Number.parseInt(stat, 10)] : [];
    });
  }

  /** Everything that a call wrote, read in pieces to its end. */
  async readAll(session: string, callId: string, fence = 1): Promise<Ran> {
    const chunks: ProcessRead['chunks'] = [];
    for (let afterSeq = 0; ; ) {
      const request = { session, fence, callId, afterSeq, maxBytes: 1 << 20, waitMs: 25_000 };
      const read = unrefused(await this.client.readProcess(request));
      chunks.push(...read.chunks);
      afterSeq = read.nextSeq;
      if (read.chunks.length === 0 && read.process.state !== 'running') return joined({ ...read, chunks });
    }
  }

  async close(): Promise<void> {
    const { pid } = await this.client.hello();
    await this.client.shutdownHost();
    await this.client.close();
    await eventually('the host ends', () => !isAlive(pid));
    const left = processesWith(this.stateDir).filter(isAlive);
    const groups = cgroupsOf(pid);
    rmSync(this.stateDir, { recursive: true, force: true });
    if (left.length > 0) throw new Error(`processes are left: ${left.join(', ')}`);
    if (groups.length > 0) throw new Error(`cgroups are left: ${groups.join(', ')}`);
  }
}
