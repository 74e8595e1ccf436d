// The table of escape attempts as regression tests, through the real host and sandbox. A row passes only on the
// expected refusal: a missing tool is none. Numbers in brackets are the table's rows (docs/design/sandbox.md).
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gvisorAnswers } from '../../attack/rows/gvisor.ts';
import { kernelAllowed, kernelAnswers, kernelChoices } from '../../attack/rows/kernel.ts';
import { answers, eventually, isGvisor, joined, processesNamed, Rig, unrefused } from './rig.ts';

const SECRET = 'host-secret-7f3a9c';
const ABSTRACT = `scriptorium-escape-${process.pid}`;
const probes = path.resolve(import.meta.dirname, '../../attack/probes');
const isX64 = process.arch === 'x64';

let rig: Rig;
let folder: string;
let limitsBy: string;
let servers: Server[] = [];
const said = new Map<string, string>();

const listen = (where: number | string): Promise<Server> =>
  new Promise((resolve) => {
    const server = createServer((socket) => socket.end(SECRET));
    servers.push(server);
    server.listen(typeof where === 'number' ? { port: where, host: '127.0.0.1' } : { path: where }, () =>
      resolve(server),
    );
  });

/** A host whose own environment holds a secret, as a careless operator would start it. */
async function startCarelessHost(stateDir: string): Promise<void> {
  const main = path.resolve(import.meta.dirname, '../../src/sandbox/host/main.ts');
  const args = [
    '--disable-warning=ExperimentalWarning',
    main,
    '--state-dir',
    stateDir,
    '--owner-grace-ms',
    '20000',
  ];
  spawn(process.execPath, args, {
    env: { ...process.env, HOSTSECRET: SECRET },
    stdio: 'ignore',
    detached: true,
  }).unref();
  await eventually('the host answers', () => answers(stateDir));
}

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-escapes-'));
  writeFileSync(path.join(folder, 'secret'), SECRET, { mode: 0o644 });
  const stateDir = path.join(folder, 'state');
  await import('node:fs').then(({ mkdirSync }) => mkdirSync(stateDir));
  await startCarelessHost(stateDir);
  rig = await Rig.start({ stateDir });
  limitsBy = (await rig.create('evil')).limitsBy;
  await rig.create('other');
  const probe = path.join(folder, 'probe');
  execFileSync('cc', ['-O1', '-static', '-o', probe, path.join(probes, 'kernel.c')]);
  for (const session of ['evil', 'other']) {
    const edits = [{ path: '/workspace/probe', content: readFileSync(probe), mode: 0o755 }];
    unrefused(await rig.client.applyEdits({ session, fence: 1, callId: 'probe', edits }));
  }
  const tcp = await listen(0);
  await listen(`\0${ABSTRACT}`);
  const port = (tcp.address() as { port: number }).port;
  const ran = await rig.run('evil', ['./probe', String(port), ABSTRACT]);
  for (const line of ran.stdout.trim().split('\n')) {
    const [name, answer] = line.split('=');
    said.set(name as string, answer as string);
  }
}, 60_000);

afterAll(async () => {
  for (const server of servers) server.close();
  servers = [];
  await rig.close();
  rmSync(folder, { recursive: true, force: true });
});

const rows = Object.entries(kernelAnswers).flatMap(([answer, names]) =>
  names.map((name) => [name, answer] as const),
);

const answersHere = (name: string, answers: readonly string[]): readonly string[] => {
  return (isGvisor ? gvisorAnswers[name] : undefined) ?? answers;
};

describe('what the kernel must refuse', () => {
  it.each(rows)('%s is refused with %s', (name, answer) => {
    expect(answersHere(name, [answer])).toContain(said.get(name));
  });

  it.each(Object.entries(kernelChoices))('%s is refused with one of %j', (name, answers) => {
    expect(answersHere(name, answers)).toContain(said.get(name));
  });

  it('still allows what programs need', () => {
    for (const name of kernelAllowed) expect([name, said.get(name)]).toEqual([name, 'done']);
  });

  it('has tried nothing that this table does not judge', () => {
    const judged = [...rows.map(([name]) => name), ...Object.keys(kernelChoices), ...kernelAllowed];
    expect([...said.keys()].filter((name) => !judged.includes(name))).toEqual([]);
  });

  // gVisor refuses each of them (-1) and does not kill.
  it.runIf(isX64 && !isGvisor)(
    'kills a program that uses the 32-bit calls, whose numbers the filter does not know',
    async () => {
      expect((await rig.run('evil', ['./probe', 'int80'])).process).toMatchObject({ signal: 'SIGSYS' });
    },
  );

  it('[2] unshare(1) cannot make a namespace, either', async () => {
    expect((await rig.run('evil', ['unshare', '-Urm', 'true'])).stderr).toContain('Operation not permitted');
  });

  it.skipIf(isGvisor)('set-uid programs give nothing', async () => {
    expect(
      (
        await rig.sh(
          'evil',
          'grep NoNewPrivs /proc/self/status; grep nosuid /proc/self/mountinfo | grep -c " /usr "',
        )
      ).stdout,
    ).toBe('NoNewPrivs:\t1\n1\n');
  });
});

describe('what must not be there', () => {
  it('[5] [6] the host secret and the host paths are in no environment and no command line', async () => {
    const script = `cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; env; cat /proc/mounts /etc/passwd`;
    const { stdout } = await rig.sh('evil', script);
    expect(stdout).toContain('/opt/scriptorium/guest');
    expect(stdout).not.toContain(SECRET);
    expect(stdout).not.toContain(folder);
  });

  it('[8] the sandbox sees its own processes only, and cannot end its PID 1', async () => {
    const ran = await rig.sh('evil', 'kill -9 1; kill -STOP 1; kill -TERM 1; ls -d /proc/[0-9]* | wc -l');
    expect(Number(ran.stdout)).toBeLessThan(10);
    const all = await rig.sh('evil', 'kill -9 -1; echo still here');
    expect(all.process).toMatchObject({ state: 'exited' });
    expect((await rig.sh('evil', 'echo alive')).stdout).toBe('alive\n');
  });

  it('[36] a program inherits four descriptors and no way to the host', async () => {
    // No pipeline and no list first: a shell opens descriptors of its own for those.
    const script =
      'for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 20 32 64 255; do readlink /proc/$$/fd/$n && echo $n; done';
    const { stdout } = await rig.sh('evil', script);
    expect(stdout).toMatch(/^\/dev\/null\n0\npipe:\[\d+\]\n1\npipe:\[\d+\]\n2\npipe:\[\d+\]\n9\n$/);
  });

  it('[37] another session is not there: not its disk, not its processes, not its uid', async () => {
    const request = rig.start('other', ['sleep', '987661'], { waitMs: 0 });
    unrefused(await rig.client.startProcess(request));
    const { stdout } = await rig.sh(
      'evil',
      'ls -a /home /home/agent /mnt/session /workspace; cat /proc/[0-9]*/cmdline',
    );
    expect(stdout).not.toContain('987661');
    expect(stdout).not.toContain('other');
    const infos = await Promise.all(['evil', 'other'].map((name) => rig.create(name)));
    const uids = infos.map(({ ownUid }) => ownUid);
    if (process.getuid?.() === 0) expect(new Set([...uids, 0]).size).toBe(3);
    await rig.client.terminateProcess(request);
  });

  it('[29] a link out of the workspace leads the file tools nowhere', async () => {
    await rig.sh('evil', 'ln -s / rootlink; ln -s ../../../../../../.. up');
    for (const link of ['rootlink', 'up']) {
      const there = { session: 'evil', fence: 1, path: `/workspace/${link}${folder}/secret` };
      expect(await rig.client.readFile({ ...there, maxBytes: 100 })).toMatchObject({ refused: 'not_found' });
      const edits = [{ path: `/workspace/${link}${folder}/planted`, content: Buffer.from('x') }];
      const outcome = await rig.client.applyEdits({
        session: 'evil',
        fence: 1,
        callId: `out-${link}`,
        edits,
      });
      // Below /tmp the sandbox may make folders of its own; elsewhere it may not. The host's is not touched either way.
      expect(existsSync(path.join(folder, 'planted'))).toBe(false);
      expect(outcome).toBeDefined();
    }
  });

  it('[28] links left in every writable place do nothing at the next start (CVE-2026-87766)', async () => {
    const target = path.join(folder, 'victim');
    const plant = ['/workspace', '/home/agent', '/mnt/session/outputs'].map(
      (place) =>
        `for n in oldroot newroot .git .config uploads outputs; do ln -s /oldroot${target}/$n ${place}/$n; done`,
    );
    await rig.sh('other', plant.join('\n'));
    await rig.client.destroySandbox({ session: 'other', fence: 1, removeDisk: false });
    await rig.create('other');
    expect(existsSync(target)).toBe(false);
    expect((await rig.sh('other', 'echo up')).stdout).toBe('up\n');
  });

  it('[30] a repository that runs commands when it is looked at is never looked at by the host', async () => {
    const marker = path.join(folder, 'executed');
    const config = `[core]\n\tfsmonitor = touch ${marker}\n\thooksPath = .git/hooks\n\tpager = touch ${marker}\n`;
    await rig.sh('evil', 'git init -q .');
    const edits = [{ path: '/workspace/.git/config', content: Buffer.from(config) }];
    unrefused(await rig.client.applyEdits({ session: 'evil', fence: 1, callId: 'git', edits }));
    const walk = {
      session: 'evil',
      fence: 1,
      path: '/workspace',
      skipDirectories: [],
      maxEntries: 1000,
      maxDepth: 9,
    };
    unrefused(await rig.client.walk(walk));
    await rig.client.destroySandbox({ session: 'evil', fence: 1, removeDisk: false });
    await rig.create('evil');
    expect(existsSync(marker)).toBe(false);
  });
});

describe('[32] what must stay bounded', () => {
  // gVisor's own are in src/sandbox/gvisor/gvisor.test.ts.
  it.skipIf(isGvisor)(
    'a fork bomb stops at the limit, the host goes on, and nothing of it is left',
    async () => {
      const bomb = rig.start('evil', ['perl', '-e', '$0 = "bomb987662"; while (1) { fork }'], { waitMs: 0 });
      unrefused(await rig.client.startProcess(bomb));
      await eventually('it is at its limit', () => processesNamed('bomb987662').length > 100);
      expect(processesNamed('bomb987662').length).toBeLessThanOrEqual(128 + 16);
      expect((await rig.sh('other', 'echo other')).stdout).toBe('other\n');
      const listing = { session: 'evil', fence: 1, path: '/workspace/probe' };
      expect(await rig.client.stat(listing)).toMatchObject({ type: 'file' });
      expect((await rig.sh('evil', 'true')).process).toMatchObject({ exitCode: 126 });
      unrefused(await rig.client.terminateProcess(bomb));
      expect(processesNamed('bomb987662')).toEqual([]);
      expect((await rig.sh('evil', 'echo again')).stdout).toBe('again\n');
    },
  );

  it.skipIf(isGvisor).each(['memory', 'memfd'])('a %s bomb is killed alone, and said to be', async (kind) => {
    const ran = await rig.run('evil', ['./probe', kind]);
    if (limitsBy === 'rlimits') {
      // Nobody kills: what is asked beyond the limit is refused, and a bomb that does not look dies of it.
      expect(ran.process).toMatchObject({ state: 'exited', endedBy: null });
      // The probe writes through a null pointer; a memfd's write is refused (it exits with 1) or too large.
      const ends = kind === 'memory' ? [{ signal: 'SIGSEGV' }] : [{ signal: 'SIGXFSZ' }, { exitCode: 1 }];
      expect(ends.some((end) => isDeepStrictEqual({ ...ran.process, ...end }, ran.process))).toBe(true);
    } else expect(ran.process).toMatchObject({ state: 'exited', signal: 'SIGKILL', endedBy: 'memory' });
    expect((await rig.sh('evil', 'echo alive')).stdout).toBe('alive\n');
  });

  it.each(['/tmp', '/dev/shm'])('%s fills up at its size', async (place) => {
    const ran = await rig.sh(
      'evil',
      `head -c 100000000 /dev/zero > ${place}/big; wc -c < ${place}/big; rm ${place}/big`,
    );
    expect(ran.stderr).toContain('No space left on device');
    expect(Number(ran.stdout)).toBeLessThanOrEqual(16 << 20);
  });

  it('a file stops growing at its limit', async () => {
    await rig.create('small', { limits: { ...limits, fileBytes: 1 << 20 } });
    const ran = await rig.sh('small', 'head -c 5000000 /dev/zero > big; wc -c < big');
    expect(ran.stdout.trim()).toBe(String(1 << 20));
    await rig.client.destroySandbox({ session: 'small', fence: 1, removeDisk: true });
  });

  it('[33] terminal escapes and endless output stay bytes in a bounded file', async () => {
    const request = rig.start('evil', ['/bin/sh', '-c', 'printf "\\033]0;x\\007"; yes'], {
      timeoutMs: 400,
      maxOutputBytes: 50_000,
    });
    const ran = joined(unrefused(await rig.client.startProcess(request)));
    expect(ran.stdout.startsWith('\x1b]0;x\x07y\n')).toBe(true);
    expect(ran.stdout.length).toBe(50_000);
  });
});

const limits = {
  memoryBytes: 256 << 20,
  processes: 128,
  openFiles: 1024,
  tmpBytes: 32 << 20,
  fileBytes: 1 << 30,
};

it('leaves nothing on the host of a session that is gone', async () => {
  await rig.client.destroySandbox({ session: 'other', fence: 1, removeDisk: true });
  expect(readdirSync(path.join(rig.stateDir, 'sessions'))).toEqual(['evil']);
});
