import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import {
  answers,
  eventually,
  isAlive,
  processesWith,
  Rig,
  specOf,
  unrefused,
} from '../../../test/escapes/rig.ts';
import { HostUnreachable } from '../executor.ts';
import { connectHost, findHost } from './adopt.ts';
import { findPrograms } from './programs.ts';

const adoptUrl = new URL('./adopt.ts', import.meta.url).href;
const isRoot = process.getuid?.() === 0;

let engines: ChildProcess[] = [];
afterEach(() => {
  for (const engine of engines) engine.kill('SIGKILL');
  engines = [];
});

/** An engine of its own process: starts a command through the folder's host, prints its call id, and waits. */
function engine(stateDir: string, start: object): ChildProcess {
  const script = `
    import { connectHost } from ${JSON.stringify(adoptUrl)};
    const client = await connectHost({ stateDir: ${JSON.stringify(stateDir)}, ownerGraceMs: 20000 });
    const read = await client.startProcess(${JSON.stringify(start)});
    console.log(JSON.stringify(read.process));
    setInterval(() => {}, 1000);`;
  const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  engines.push(child);
  return child;
}

describe('adopting a host', () => {
  it('a command survives the kill -9 of the engine that started it; the next one reads on where that left off', async () => {
    const rig = await Rig.start();
    await rig.create('s');
    const script = 'echo before; until test -e go; do sleep 0.02; done; echo after; exit 4';
    const request = rig.start('s', ['/bin/sh', '-c', script], { waitMs: 300 });
    const first = engine(rig.stateDir, request);
    await new Promise((resolve) => first.stdout?.once('data', resolve));
    const { pid } = await rig.client.hello();
    await rig.client.close();
    first.kill('SIGKILL');
    await eventually('the engine is dead', () => first.signalCode !== null);
    rig.client = await rig.connect();
    expect((await rig.client.hello()).pid).toBe(pid);
    expect(await rig.client.callStatus({ ...request, fence: 2 })).toMatchObject({
      process: { state: 'running' },
    });
    expect(await rig.client.startProcess(request)).toMatchObject({ refused: 'fenced' });
    await rig.sh('s', 'touch go', { fence: 2, callId: 'go' });
    const all = await rig.readAll('s', request.callId, 2);
    expect(all).toMatchObject({ stdout: 'before\nafter\n', process: { state: 'exited', exitCode: 4 } });
    await rig.close();
  });

  it('several engines that start at once get one and the same host', async () => {
    const stateDir = mkdtempSync(path.join(tmpdir(), 'scriptorium-host-'));
    const options = { stateDir, ownerGraceMs: 20_000 };
    const clients = await Promise.all([1, 2, 3, 4].map(() => connectHost(options)));
    const pids = new Set((await Promise.all(clients.map((client) => client.hello()))).map(({ pid }) => pid));
    expect(pids.size).toBe(1);
    await eventually(
      'the hosts that came late give up',
      () => processesWith(`--state-dir\x00${stateDir}`).length === 1,
    );
    const rig = await Rig.start(options);
    for (const client of clients) await client.close();
    await rig.close();
  });

  it('a host that dies while it is greeted is followed by another, and nobody has to start twice', async () => {
    const stateDir = mkdtempSync(path.join(tmpdir(), 'scriptorium-host-'));
    const script = `
      import { connectHost } from ${JSON.stringify(adoptUrl)};
      await connectHost({ stateDir: ${JSON.stringify(stateDir)}, ownerGraceMs: 20000 });
      console.log('greeted');
      setInterval(() => {}, 1000);`;
    // Two answers for the one that starts it; the next one is its last.
    const first = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, SCRIPTORIUM_FAILPOINTS: 'host.before-reply=kill@3' },
    });
    engines.push(first);
    await new Promise((resolve) => first.stdout?.once('data', resolve));
    const before = processesWith(`--state-dir\x00${stateDir}`);
    const client = await connectHost({ stateDir, ownerGraceMs: 20_000 });
    const { pid } = await client.hello();
    expect(before).not.toContain(pid);
    await client.shutdownHost();
    await client.close();
    await eventually('the host ends', () => !isAlive(pid));
    rmSync(stateDir, { recursive: true, force: true });
  });

  it('works in a folder whose path is longer than a socket address', async () => {
    const root = mkdtempSync(path.join(tmpdir(), 'scriptorium-host-'));
    const stateDir = path.join(root, 'x'.repeat(120), 'y'.repeat(60));
    const rig = await Rig.start({ stateDir });
    await rig.create('s');
    expect((await rig.sh('s', 'echo long')).stdout).toBe('long\n');
    await rig.close();
    rmSync(root, { recursive: true });
  });

  it('a host that cannot start is unreachable, with its own words', async () => {
    const stateDir = mkdtempSync(path.join(tmpdir(), 'scriptorium-host-'));
    const bad = connectHost({ stateDir, binds: ['/no/such/file:/witness'] });
    await expect(bad).rejects.toThrow('no such file or directory on this host');
    await expect(connectHost({ stateDir, binds: ['/etc:/workspace/etc'] })).rejects.toThrow(HostUnreachable);
    expect(await findHost(stateDir)).toBeNull();
    rmSync(stateDir, { recursive: true });
  });
});

describe('hosts under other conditions', () => {
  it('without isolation, only by flag and spec, maps the paths of the port and says loudly what it is', async () => {
    const rig = await Rig.start({ allowUnisolated: true });
    const info = await rig.create('s', { isolation: 'none' });
    expect(info).toMatchObject({ isolation: 'none', seccomp: false, network: 'host', ownUid: null });
    expect(info.warnings[0]).toContain('NO ISOLATION');
    const { stdout } = await rig.sh('s', 'echo x > f; pwd; setsid sleep 987660 >/dev/null 2>&1 & ');
    expect(stdout.trim()).toBe(path.join(rig.stateDir, 'sessions/s/workspace'));
    expect(await rig.client.stat({ session: 's', fence: 1, path: '/workspace/f' })).toMatchObject({
      path: '/workspace/f',
    });
    await rig.client.destroySandbox({ session: 's', fence: 1, removeDisk: true });
    await eventually(
      'no daemon is left',
      () => processesWith('sleep\x00987660').filter(isAlive).length === 0,
    );
    await rig.close();
  });

  it('shows an operator bind where it was asked, and reports it', async () => {
    const witness = mkdtempSync(path.join(tmpdir(), 'scriptorium-witness-'));
    chmodSync(witness, 0o777);
    const rig = await Rig.start({ binds: [`${witness}:/witness`] });
    const { warnings } = await rig.create('s');
    expect(warnings.join()).toContain('/witness');
    await rig.sh('s', 'echo seen > /witness/it');
    expect(existsSync(path.join(witness, 'it'))).toBe(true);
    await rig.close();
    rmSync(witness, { recursive: true });
  });

  it.skipIf(!isRoot)(
    'works without root, with rlimits in place of cgroups and a warning for each lack',
    async () => {
      const root = mkdtempSync(path.join(tmpdir(), 'scriptorium-user-'));
      const stateDir = path.join(root, 'state');
      mkdirSync(stateDir);
      for (const folder of [root, stateDir]) chownSync(folder, 65_533, 65_533);
      // The clone may lie where that user cannot go, so it runs from a copy.
      cpSync(path.resolve(import.meta.dirname, '../../..', 'src'), path.join(root, 'src'), {
        recursive: true,
      });
      mkdirSync(path.join(root, 'native/build'), { recursive: true });
      const { guest, launch, netprep } = findPrograms();
      for (const file of [guest, launch, netprep])
        cpSync(file, path.join(root, 'native/build', path.basename(file)));
      execFileSync('chown', ['-R', '65533:65533', root]);
      const node = path.join(root, 'node');
      cpSync(process.execPath, node);
      const asUser = ['--reuid', '65533', '--regid', '65533', '--clear-groups', node];
      const main = path.join(root, 'src/sandbox/host/main.ts');
      const host = spawn('setpriv', [...asUser, main, '--state-dir', stateDir], { stdio: 'ignore' });
      engines.push(host);
      // More processes of that user outside than the sandbox may have: they are no business of its limit.
      const crowdOf = ['sh', '-c', 'for i in $(seq 40); do sleep 60 & done; wait'];
      const crowd = spawn('setpriv', [...asUser.slice(0, 5), ...crowdOf], { detached: true });
      await eventually('it answers', () => answers(stateDir));
      const rig = await Rig.start({ stateDir });
      const limits = { ...specOf('s').limits, processes: 30 };
      const info = await rig.create('s', { limits, isolation: 'bubblewrap' });
      expect(info).toMatchObject({
        limitsBy: 'rlimits',
        ownUid: null,
        seccomp: true,
        isolation: 'bubblewrap',
      });
      expect(info.warnings.length).toBeGreaterThanOrEqual(2);
      expect((await rig.sh('s', 'id -u; echo hi > f; cat f')).stdout).toBe('1000\nhi\n');
      const bomb = await rig.sh('s', 'for i in $(seq 60); do sleep 5 & done 2>&1; wait');
      expect(bomb.stdout).toMatch(/fork|Resource temporarily unavailable/);
      unrefused(await rig.client.destroySandbox({ session: 's', fence: 1, removeDisk: true }));
      await rig.close();
      process.kill(-(crowd.pid as number), 'SIGKILL');
      rmSync(root, { recursive: true });
    },
  );
});
